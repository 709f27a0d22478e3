// The kernels' CUDA C++ as plain C++: put before the sources; kernels.cpp, put after them, makes `launch`.
//
// The threads of a block are fibres of one real thread. Each runs until it ends or comes to a barrier, and
// then the next: what one reads that another writes before no barrier between them is wrong here, always.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using std::max;
using std::min;

#define __global__
#define __device__
#define __shared__ static
#define __noinline__

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static float2 make_float2(float x, float y) { return {x, y}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class Value> static Value __ldg(const Value *address) { return *address; }
static void atomicMin(int *address, int value) { *address = min(*address, value); }
static void atomicMax(int *address, int value) { *address = max(*address, value); }

static float float_from_half(unsigned short half)
{
    _Float16 value;
    std::memcpy(&value, &half, 2);
    return value;
}

static unsigned short half_from_float(float value)
{
    const _Float16 rounded = static_cast<_Float16>(value);
    unsigned short half;
    std::memcpy(&half, &rounded, 2);
    return half;
}

struct Fibre {
    ucontext_t context;
    Index place;
    bool ended;
    std::vector<char> stack;
};
static ucontext_t block;
static Fibre *running;

static void __syncthreads() { swapcontext(&running->context, &block); }
