// What both warps stand on: a frame's planes, values between their samples, half precision.
//
// No header is included, so that NVRTC needs none. Whoever compiles puts this file first, then crop.cu and
// paste.cu; a C++ compiler takes the three after the tests' host.h. The structs are those of records.py.

#ifdef __CUDACC__
__device__ inline float float_from_half(unsigned short half)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

__device__ inline unsigned short half_from_float(float value)
{
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}
#endif

struct Plane {
    void *samples;          // of 1 or 2 bytes
    long long row, column;  // from one to the next, in samples
    int width, height;
};

// What a reader sees of a plane that nobody writes.
template <class Sample> __device__ inline float seen(const Plane &plane, int x, int y)
{
    return __ldg(static_cast<const Sample *>(plane.samples) + y * plane.row + x * plane.column);
}

struct Pixels {  // a picture of `channels` float or half values, in any order
    void *values;
    long long row, column, channel;  // from one to the next, in values
    int size, half;
};

__device__ inline float pixel(const Pixels &pixels, int x, int y, int channel)
{
    const long long at = y * pixels.row + x * pixels.column + channel * pixels.channel;
    if (pixels.half)
        return float_from_half(__ldg(static_cast<const unsigned short *>(pixels.values) + at));
    return __ldg(static_cast<const float *>(pixels.values) + at);
}

// How a source is smoothed along one axis: reduced to means of so many samples, then by five taps, of which
// these are the outermost, the next, and the middle one.
struct Axis {
    int reduced;
    float taps[3];
};

// Where a target pixel lies in its reduced source: x and y in units of 2^-32 px, affine in the target's. So
// a place is exact to 2^-17 px anywhere in a frame of 16384 px, and the same for every thread that asks.
struct Warp {
    long long place[6];
    Axis x, y;
    int smooth;  // whether any axis has more than the middle tap
};

struct Place {
    long long x, y;
};

__device__ inline Place placed(const Warp &warp, int x, int y)
{
    const long long *p = warp.place;
    return {p[0] * x + p[1] * y + p[2], p[3] * x + p[4] * y + p[5]};
}

// The values along one axis that make the one at a place: the first, and the weight of each. Bilinear
// interpolation has two; smoothed by five taps it has six.
template <int TAPS> __device__ inline int weighed(const Axis &axis, long long place, float (&weights)[TAPS])
{
    const float after = static_cast<unsigned>(place) * (1.0f / 4294967296.0f), before = 1 - after;
    if (TAPS == 2) {
        weights[0] = before;
        weights[1] = after;
    } else {
        const float *k = axis.taps;
        weights[0] = k[0] * before;
        weights[1] = k[1] * before + k[0] * after;
        weights[2] = k[2] * before + k[1] * after;
        weights[TAPS - 3] = k[1] * before + k[2] * after;
        weights[TAPS - 2] = k[0] * before + k[1] * after;
        weights[TAPS - 1] = k[0] * after;
    }
    return static_cast<int>(place >> 32) - (TAPS / 2 - 1);
}

// An index beyond an edge, reflected about the outermost sample as often as needed. Few come here, and its
// divisions in every place that may need them would take a compiler minutes.
__device__ __noinline__ int folded(int index, int length)
{
    const int period = length > 1 ? 2 * (length - 1) : 1;
    const int within = (index % period + period) % period;
    return min(within, period - within);
}

__device__ inline int mirrored(int index, int length)
{
    return 0 <= index && index < length ? index : folded(index, length);
}

__device__ inline int clamped(int index, int length)
{
    return min(max(index, 0), length - 1);
}

// How much of pixel `i` of `size` lies in cell `cell` of `cells`, in 1 / cells of a pixel: exact, also where
// no whole number of pixels makes a cell; of all its pixels, `first_of` to `last_of`, `size` in sum.
__device__ inline float shared(int i, int size, int cell, int cells)
{
    return min((i + 1) * cells, (cell + 1) * size) - max(i * cells, cell * size);
}

__device__ inline int first_of(int size, int cell, int cells)
{
    return cell * size / cells;
}

__device__ inline int last_of(int size, int cell, int cells)
{
    return ((cell + 1) * size - 1) / cells;
}

__device__ inline int thread_of_block()
{
    return threadIdx.y * blockDim.x + threadIdx.x;
}

__device__ inline int threads_of_block()
{
    return blockDim.x * blockDim.y;
}
