// After host.h and the kernels' sources: a grid of blocks, run one after the other.

template <class... Parameters, std::size_t... I>
static void call(void (*kernel)(Parameters...), void **arguments, std::index_sequence<I...>)
{
    kernel(static_cast<Parameters>(arguments[I])...);
}

template <class... Parameters> static void call(void (*kernel)(Parameters...), void **arguments)
{
    call(kernel, arguments, std::index_sequence_for<Parameters...>());
}

static void call_by_name(const std::string &name, void **arguments)
{
    if (name == "crop")
        call(crop, arguments);
    else if (name == "cells")
        call(cells, arguments);
    else if (name == "shift")
        call(shift, arguments);
    else if (name == "levels")
        call(levels, arguments);
    else if (name == "blend")
        call(blend, arguments);
}

static std::string kernel;
static void **given;

static void live()
{
    call_by_name(kernel, given);
    running->ended = true;
}

static void run_block(std::vector<Fibre> &fibres)
{
    for (std::size_t i = 0; i < fibres.size(); i++) {
        Fibre &fibre = fibres[i];
        fibre.ended = false;
        fibre.place = {unsigned(i) % blockDim.x, unsigned(i) / blockDim.x, 0};
        fibre.stack.resize(1 << 16);
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.data();
        fibre.context.uc_stack.ss_size = fibre.stack.size();
        fibre.context.uc_link = &block;
        makecontext(&fibre.context, live, 0);
    }
    for (std::size_t alive = fibres.size(); alive > 0;) {
        alive = 0;
        for (Fibre &fibre : fibres) {
            if (fibre.ended)
                continue;
            running = &fibre;
            threadIdx = fibre.place;
            swapcontext(&block, &fibre.context);
            alive += !fibre.ended;
        }
    }
}

extern "C" void launch(const char *name, const unsigned *blocks, const unsigned *threads, void **arguments)
{
    kernel = name;
    given = arguments;
    gridDim = {blocks[0], blocks[1], blocks[2]};
    blockDim = {threads[0], threads[1], threads[2]};
    const bool barriers = kernel == "crop" || kernel == "cells" || kernel == "shift";
    std::vector<Fibre> fibres(barriers ? blockDim.x * blockDim.y : 0);
    for (unsigned z = 0; z < blocks[2]; z++)
        for (unsigned y = 0; y < blocks[1]; y++)
            for (unsigned x = 0; x < blocks[0]; x++) {
                blockIdx = {x, y, z};
                if (barriers)
                    run_block(fibres);
                else
                    for (unsigned i = 0; i < blockDim.x * blockDim.y; i++) {
                        threadIdx = {i % blockDim.x, i / blockDim.x, 0};
                        call_by_name(kernel, arguments);
                    }
            }
}

extern "C" long long size_of(const char *record)
{
    const std::string name = record;
    return name == "Picture"    ? sizeof(Picture)
           : name == "CropFace" ? sizeof(CropFace)
           : name == "Crops"    ? sizeof(Crops)
           : name == "Face"     ? sizeof(Face)
           : name == "Patch"    ? sizeof(Patch)
                                : 0;
}
