// Restored crops back into the planes of the frames they came from, in four launches for all faces of all
// frames:
//
//   cells    the crop, the restored face and the mask, each on a grid of at most 64 x 64 means
//   shift    from those, what the restored face lacks of the crop's colour and light
//   levels   the restored face with that added, as levels of the planes of each grid, and its weights, both
//            reduced by as much as that grid's samples are coarser
//   blend    into the planes
//
// Nothing depends on the order in which threads run: sums are taken in a fixed order, and a sample of a
// plane is read and written by one thread, that of the face with the largest weight there.

struct Face {
    Pixels restored, crop, mask;
    float *cells;    // (seen, seen, 8): crop, restored, mask, and how far the crop is from grey; or null
    float4 *shifts;  // (seen, seen): to be added to the restored face; the last is whether it is grey
    int seen;        // the side of that grid
    float strength;
};

struct Patch {  // a face on one grid of its frame
    Warp warp;  // crop_from_plane
    Plane planes[3];
    int count;        // of planes
    int wide;         // whether a sample has 2 bytes
    float top, faint;  // the highest level; the weight that cannot change a sample
    float samples_from_rgb[3][4];
    float *levels;  // (height, width) of 2 or 4: the planes' levels, and last the weight
    int left, upper, width, height;  // of `levels`, in reduced crop pixels
    int x0, y0, x1, y1;  // the samples the face may reach
    int face;
    int rival, rivals;  // the patches on the same grid of the same frame, this one among them
    int across, down, frame_width, frame_height;  // luma samples a sample; the frame's
};

const int COARSE = 16, CELL_THREADS = 128, SHIFT_THREADS = 256;
const float GREY_WITHIN = 4.0f / 255;

// Of sigma 1, from its middle.
__device__ const float GAUSSIAN[5] = {0.3989434694f, 0.2419714457f, 0.0539911274f, 0.0044318616f,
                                      0.0001338306f};

__device__ inline float luma(float red, float green, float blue)
{
    return 0.2126f * red + 0.7152f * green + 0.0722f * blue;
}

// What a thread adds to the sums over one cell of a picture of up to three channels: every so many-th pixel.
__device__ inline void add_cell(const Pixels &pixels, int channels, int column, int row, int cells,
                                float *sums, float *spread)
{
    const int size = pixels.size;
    const int left = first_of(size, column, cells), width = last_of(size, column, cells) + 1 - left;
    const int top = first_of(size, row, cells), height = last_of(size, row, cells) + 1 - top;
    for (int i = thread_of_block(); i < width * height; i += threads_of_block()) {
        const int x = left + i % width, y = top + i / width;
        const float share = shared(x, size, column, cells) * shared(y, size, row, cells);
        float values[3] = {0, 0, 0};
        for (int c = 0; c < channels; c++) {
            values[c] = pixel(pixels, x, y, c);
            sums[c] += share * values[c];
        }
        if (spread)
            *spread = fmaxf(*spread, fmaxf(fmaxf(values[0], values[1]), values[2]) -
                                         fminf(fminf(values[0], values[1]), values[2]));
    }
}

// Grid: the most cells across, as many down, faces.
extern "C" __global__ void cells(const Face *faces)
{
    __shared__ float partial[8][CELL_THREADS];
    const Face &face = faces[blockIdx.z];
    if (!face.cells || static_cast<int>(max(blockIdx.x, blockIdx.y)) >= face.seen)
        return;
    float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    add_cell(face.crop, 3, blockIdx.x, blockIdx.y, face.seen, sums, sums + 7);
    add_cell(face.restored, 3, blockIdx.x, blockIdx.y, face.seen, sums + 3, nullptr);
    add_cell(face.mask, 1, blockIdx.x, blockIdx.y, face.seen, sums + 6, nullptr);
    const int thread = thread_of_block();
    for (int i = 0; i < 8; i++)
        partial[i][thread] = sums[i];
    __syncthreads();
    if (thread < 8) {
        float total = 0;
        for (int i = 0; i < threads_of_block(); i++)
            total = thread == 7 ? fmaxf(total, partial[7][i]) : total + partial[thread][i];
        const float size = thread < 3 ? face.crop.size : face.restored.size;
        float *cell = face.cells + (blockIdx.y * face.seen + blockIdx.x) * 8LL;
        cell[thread] = thread == 7 ? total : total / (size * size);
    }
}

// (crop - restored) * weight and weight of a cell; of a grey crop the restored face's luma counts.
__device__ inline float4 difference(const float *cell, bool grey)
{
    float red = cell[0] - cell[3], green = cell[1] - cell[4], blue = cell[2] - cell[5];
    if (grey)
        red = green = blue = (cell[0] + cell[1] + cell[2]) / 3 - luma(cell[3], cell[4], cell[5]);
    return make_float4(red * cell[6], green * cell[6], blue * cell[6], cell[6]);
}

__device__ inline void add(float4 &sum, float weight, const float4 &value)
{
    sum.x += weight * value.x;
    sum.y += weight * value.y;
    sum.z += weight * value.z;
    sum.w += weight * value.w;
}

// One axis of a Gaussian of sigma 1, of a picture of side `size`, mirrored beyond its edges.
__device__ inline float4 blurred(const float4 *values, int x, int y, int size, bool across)
{
    float4 sum = make_float4(0, 0, 0, 0);
    for (int i = -4; i <= 4; i++) {
        const int column = across ? mirrored(x + i, size) : x, row = across ? y : mirrored(y + i, size);
        add(sum, GAUSSIAN[i < 0 ? -i : i], values[row * size + column]);
    }
    return sum;
}

// The weights of four neighbours at t from the second: cubic convolution, Keys 1981, with a = -0.75.
__device__ inline void cubic(float t, float (&weights)[4])
{
    const float a = -0.75f, u = t + 1, v = 1 - t;
    weights[0] = ((a * u - 5 * a) * u + 8 * a) * u - 4 * a;
    weights[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    weights[2] = ((a + 2) * v - (a + 3)) * v * v + 1;
    weights[3] = 1 - weights[0] - weights[1] - weights[2];
}

// Grid: faces.
extern "C" __global__ void shift(const Face *faces)
{
    __shared__ float4 coarse[COARSE * COARSE], other[COARSE * COARSE];
    __shared__ float spread[SHIFT_THREADS];
    const Face &face = faces[blockIdx.x];
    if (!face.cells)
        return;
    const int seen = face.seen, size = min(COARSE, seen);
    const int thread = thread_of_block(), threads = threads_of_block();
    spread[thread] = 0;
    for (int i = thread; i < seen * seen; i += threads)
        spread[thread] = fmaxf(spread[thread], face.cells[i * 8LL + 7]);
    __syncthreads();
    float most = 0;
    for (int i = 0; i < threads; i++)
        most = fmaxf(most, spread[i]);
    const bool grey = most <= GREY_WITHIN;
    for (int i = thread; i < size * size; i += threads) {
        const int column = i % size, row = i / size;
        float4 sum = make_float4(0, 0, 0, 0);
        for (int y = first_of(seen, row, size); y <= last_of(seen, row, size); y++)
            for (int x = first_of(seen, column, size); x <= last_of(seen, column, size); x++) {
                const float share = shared(x, seen, column, size) * shared(y, seen, row, size);
                add(sum, share / (seen * seen), difference(face.cells + (y * seen + x) * 8LL, grey));
            }
        coarse[i] = sum;
    }
    __syncthreads();
    for (int i = thread; i < size * size; i += threads)
        other[i] = blurred(coarse, i % size, i / size, size, true);
    __syncthreads();
    for (int i = thread; i < size * size; i += threads) {
        const float4 sum = blurred(other, i % size, i / size, size, false);
        const float weight = fmaxf(sum.w, 1e-3f);
        coarse[i] = make_float4(sum.x / weight, sum.y / weight, sum.z / weight, 0);
    }
    __syncthreads();
    for (int i = thread; i < seen * seen; i += threads) {
        const float x = (i % seen + 0.5f) * size / seen - 0.5f, y = (i / seen + 0.5f) * size / seen - 0.5f;
        const int left = static_cast<int>(floorf(x)) - 1, top = static_cast<int>(floorf(y)) - 1;
        float across[4], down[4];
        cubic(x - floorf(x), across);
        cubic(y - floorf(y), down);
        float4 sum = make_float4(0, 0, 0, 0);
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < 4; k++)
                add(sum, down[j] * across[k],
                    coarse[clamped(top + j, size) * size + clamped(left + k, size)]);
        face.shifts[i] = make_float4(sum.x, sum.y, sum.z, grey ? 1 : 0);
    }
}

__device__ inline float clipped(float value)
{
    return fminf(fmaxf(value, -1.0f), 1.0f);
}

// The restored face in [-1, 1] at a pixel, in the colour and light of its crop.
__device__ inline float4 matched(const Face &face, int x, int y)
{
    const Pixels &restored = face.restored;
    float4 rgb = make_float4(pixel(restored, x, y, 0), pixel(restored, x, y, 1), pixel(restored, x, y, 2), 0);
    if (face.cells) {
        const int seen = face.seen;
        const float u = (x + 0.5f) * seen / restored.size - 0.5f;
        const float v = (y + 0.5f) * seen / restored.size - 0.5f;
        const float s = u - floorf(u), t = v - floorf(v);
        const int column = static_cast<int>(floorf(u)), row = static_cast<int>(floorf(v));
        const int left = clamped(column, seen), right = clamped(column + 1, seen);
        const float4 *above = face.shifts + clamped(row, seen) * seen;
        const float4 *below = face.shifts + clamped(row + 1, seen) * seen;
        if (above[0].w > 0)
            rgb.x = rgb.y = rgb.z = luma(rgb.x, rgb.y, rgb.z);
        add(rgb, (1 - t) * (1 - s), above[left]);
        add(rgb, (1 - t) * s, above[right]);
        add(rgb, t * (1 - s), below[left]);
        add(rgb, t * s, below[right]);
    }
    return make_float4(clipped(rgb.x), clipped(rgb.y), clipped(rgb.z), 0);
}

// Grid: tiles of `levels` across, tiles down, patches.
extern "C" __global__ void levels(const Face *faces, const Patch *patches)
{
    const Patch &patch = patches[blockIdx.z];
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= patch.width || row >= patch.height)
        return;
    const Face &face = faces[patch.face];
    const int fx = patch.warp.x.reduced, fy = patch.warp.y.reduced, size = face.restored.size;
    const float share = 1.0f / (fx * fy);
    float4 rgb = make_float4(0, 0, 0, 0);
    float weight = 0;
    for (int dy = 0; dy < fy; dy++)
        for (int dx = 0; dx < fx; dx++) {
            const int x = (patch.left + column) * fx + dx, y = (patch.upper + row) * fy + dy;
            add(rgb, 1, matched(face, clamped(x, size), clamped(y, size)));
            if (0 <= x && x < size && 0 <= y && y < size)
                weight += pixel(face.mask, x, y, 0);
        }
    float values[4] = {0, 0, 0, weight * share * face.strength};
    for (int i = 0; i < patch.count; i++) {
        const float *m = patch.samples_from_rgb[i];
        values[i] = (m[0] * rgb.x + m[1] * rgb.y + m[2] * rgb.z) * share + m[3];
    }
    const long long at = static_cast<long long>(row) * patch.width + column;
    if (patch.count == 1)
        reinterpret_cast<float2 *>(patch.levels)[at] = make_float2(values[0], values[3]);
    else
        reinterpret_cast<float4 *>(patch.levels)[at] =
            make_float4(values[0], values[1], values[2], values[3]);
}

__device__ inline float4 value_of(const float4 *values, long long at)
{
    return __ldg(values + at);
}

__device__ inline float4 value_of(const float2 *values, long long at)
{
    const float2 value = __ldg(values + at);
    return make_float4(value.x, 0, 0, value.y);
}

template <int TAPS, class Values> __device__ inline float4 gathered(const Patch &patch, int x, int y)
{
    float across[TAPS], down[TAPS];
    const Place place = placed(patch.warp, x, y);
    const int left = weighed(patch.warp.x, place.x, across) - patch.left;
    const int top = weighed(patch.warp.y, place.y, down) - patch.upper;
    const Values *values = reinterpret_cast<const Values *>(patch.levels);
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < TAPS; j++) {
        const long long row = static_cast<long long>(clamped(top + j, patch.height)) * patch.width;
        float4 line = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < TAPS; i++)
            add(line, across[i], value_of(values, row + clamped(left + i, patch.width)));
        add(sum, down[j], line);
    }
    return sum;
}

__device__ inline float4 gathered(const Patch &patch, int x, int y)
{
    if (patch.count == 1)
        return patch.warp.smooth ? gathered<6, float2>(patch, x, y) : gathered<2, float2>(patch, x, y);
    return patch.warp.smooth ? gathered<6, float4>(patch, x, y) : gathered<2, float4>(patch, x, y);
}

template <class Sample>
__device__ inline void write(const Plane &plane, int x, int y, float level, float weight, float top)
{
    Sample &sample = static_cast<Sample *>(plane.samples)[y * plane.row + x * plane.column];
    const float base = sample;
    sample = static_cast<Sample>(fminf(fmaxf(rintf(base + weight * (level - base)), 0.0f), top));
}

// Few threads are at an edge of what was written so far, and only those pay for an atomic.
__device__ inline void note(const Patch &patch, int *seen, int x, int y)
{
    const int x1 = min((x + 1) * patch.across, patch.frame_width);
    const int y1 = min((y + 1) * patch.down, patch.frame_height);
    if (x * patch.across < seen[0])
        atomicMin(seen, x * patch.across);
    if (y * patch.down < seen[1])
        atomicMin(seen + 1, y * patch.down);
    if (x1 > seen[2])
        atomicMax(seen + 2, x1);
    if (y1 > seen[3])
        atomicMax(seen + 3, y1);
}

// Grid: tiles of samples across, tiles down, patches. Every patch goes through its rivals by the same code
// in the same order, so that all find the same one ahead; only the one that it is writes. `written` has for
// each face x0, y0, x1, y1 of the luma samples that its written samples span.
extern "C" __global__ void blend(const Patch *patches, int *written)
{
    const Patch &patch = patches[blockIdx.z];
    const int x = patch.x0 + blockIdx.x * blockDim.x + threadIdx.x;
    const int y = patch.y0 + blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= patch.x1 || y >= patch.y1)
        return;
    float4 best = make_float4(0, 0, 0, patch.faint);
    int ahead = -1;
    for (int i = patch.rival; i < patch.rival + patch.rivals; i++) {
        const Patch &rival = patches[i];
        if (x < rival.x0 || x >= rival.x1 || y < rival.y0 || y >= rival.y1)
            continue;
        const float4 value = gathered(rival, x, y);
        if (value.w > best.w) {
            best = value;
            ahead = i;
        }
    }
    if (ahead != static_cast<int>(blockIdx.z))
        return;
    const float level[3] = {best.x, best.y, best.z};
    for (int i = 0; i < patch.count; i++)
        if (patch.wide)
            write<unsigned short>(patch.planes[i], x, y, level[i], best.w, patch.top);
        else
            write<unsigned char>(patch.planes[i], x, y, level[i], best.w, patch.top);
    note(patch, written + 4 * patch.face, x, y);
}
