// Out of the planes of frames into aligned crops: all faces of all frames in one launch.
//
// A thread makes a pixel: on each grid of planes it finds its place, and weighs the samples around it (see
// samples.cuh), mirrored beyond the planes' edges. A block puts its tile together in shared memory, and
// writes it in the order in which the crops lie in memory.

struct Picture {
    Plane planes[3];
    int count;
    int first;  // how many planes share the first grid; the others are chroma's, on the second
    int wide;   // whether a sample has 2 bytes
    float rgb_from_samples[3][4];
};

struct CropFace {
    int picture;
    Warp warps[2];  // plane_from_crop of each grid
};

struct Crops {
    void *values;
    long long image, row, column, channel;  // from one to the next, in values
    int size, half;
};

const int TILE_X = 32, TILE_Y = 8;

// A value between samples.
template <class Sample> __device__ inline float bilinear(const Plane &plane, const Warp &warp, Place place)
{
    float across[2], down[2];
    const int left = weighed(warp.x, place.x, across), top = weighed(warp.y, place.y, down);
    const int x0 = mirrored(left, plane.width), x1 = mirrored(left + 1, plane.width);
    const int y0 = mirrored(top, plane.height), y1 = mirrored(top + 1, plane.height);
    return down[0] * (across[0] * seen<Sample>(plane, x0, y0) + across[1] * seen<Sample>(plane, x1, y0)) +
           down[1] * (across[0] * seen<Sample>(plane, x0, y1) + across[1] * seen<Sample>(plane, x1, y1));
}

// A value of samples that are finer than the crop. Rows of the footprint are a loop, for 36 copies of what is
// inside would take a compiler minutes, and fill the cache of instructions.
template <class Sample> __device__ inline float smoothed(const Plane &plane, const Warp &warp, Place place)
{
    float across[6], down[6];
    const int fx = warp.x.reduced, fy = warp.y.reduced;
    const int left = weighed(warp.x, place.x, across) * fx, top = weighed(warp.y, place.y, down) * fy;
    const bool inside = left >= 0 && top >= 0 && left + 6 * fx <= plane.width && top + 6 * fy <= plane.height;
    float sum = 0;
#pragma unroll 1
    for (int j = 0; j < 6; j++) {
        float rows = 0;
#pragma unroll 1
        for (int dy = 0; dy < fy; dy++) {
            const int y = inside ? top + j * fy + dy : mirrored(top + j * fy + dy, plane.height);
#pragma unroll
            for (int i = 0; i < 6; i++) {
                float run = 0;
#pragma unroll 1
                for (int dx = 0; dx < fx; dx++) {
                    const int x = left + i * fx + dx;
                    run += seen<Sample>(plane, inside ? x : mirrored(x, plane.width), y);
                }
                rows += across[i] * run;
            }
        }
        sum += down[j] * rows;
    }
    return sum / (fx * fy);
}

template <class Sample>
__device__ inline void sample(const Picture &picture, const CropFace &face, int x, int y, float (&levels)[3])
{
#pragma unroll 1
    for (int i = 0; i < picture.count; i++) {
        const Warp &warp = face.warps[i >= picture.first];
        const Place place = placed(warp, x, y);
        levels[i] = warp.smooth ? smoothed<Sample>(picture.planes[i], warp, place)
                                : bilinear<Sample>(picture.planes[i], warp, place);
    }
}

// Grid: tiles across, tiles down, faces.
extern "C" __global__ void crop(const Picture *pictures, const CropFace *faces, const Crops *out)
{
    __shared__ float tile[TILE_Y][TILE_X][3];
    const CropFace &face = faces[blockIdx.z];
    const Picture &picture = pictures[face.picture];
    const int left = blockIdx.x * TILE_X, top = blockIdx.y * TILE_Y;
    const int x = left + threadIdx.x, y = top + threadIdx.y;
    if (x < out->size && y < out->size) {
        float levels[3] = {0, 0, 0};
        if (picture.wide)
            sample<unsigned short>(picture, face, x, y, levels);
        else
            sample<unsigned char>(picture, face, x, y, levels);
        for (int c = 0; c < 3; c++) {
            const float *row = picture.rgb_from_samples[c];
            const float value = row[0] * levels[0] + row[1] * levels[1] + row[2] * levels[2] + row[3];
            tile[threadIdx.y][threadIdx.x][c] = fminf(fmaxf(value, -1.0f), 1.0f);
        }
    }
    __syncthreads();
    const bool interleaved = out->channel == 1;
    for (int i = thread_of_block(); i < TILE_X * TILE_Y * 3; i += threads_of_block()) {
        const int channel = interleaved ? i % 3 : i / (TILE_X * TILE_Y);
        const int column = interleaved ? i / 3 % TILE_X : i % TILE_X;
        const int row = interleaved ? i / (3 * TILE_X) : i / TILE_X % TILE_Y;
        if (left + column >= out->size || top + row >= out->size)
            continue;
        const long long at = blockIdx.z * out->image + channel * out->channel + (top + row) * out->row +
                             (left + column) * out->column;
        if (out->half)
            static_cast<unsigned short *>(out->values)[at] = half_from_float(tile[row][column][channel]);
        else
            static_cast<float *>(out->values)[at] = tile[row][column][channel];
    }
}
