// How do I load a model onto several GPUs of one host, in one process? Each GPU has its own loader;
// the checkpoint is shared.
//
//     --mode slices      each GPU gets its share of every layer's experts, and all other tensors
//                        (expert parallel)
//     --mode replicate   each GPU reads the whole model: the host's memory is the limit
//     --mode gather      each GPU gets the whole model: it makes a share of every tensor, and an
//                        in-place all-gather completes the tensors. Every byte is read once. Needs
//                        NCCL: compile with -DGPU_HAS_NCCL
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../programs/convert_checkpoint.hpp"
#include "checksum.hpp"
#include "cuda_device.hpp"
#include "device_model.hpp"

#if defined(GPU_HAS_NCCL)
#include <nccl.h>
#endif

namespace {

namespace sf = safefuse;

/// The state of one GPU.
struct rank_state {
    std::optional<gpu::cuda_device> device;
    std::optional<gpu::device_memory> block;
    std::optional<sf::staged_loader<gpu::cuda_device>> loader;
    std::optional<sf::standing_threads> readers;
    const gpu::device_model* model = nullptr;
};

#if defined(GPU_HAS_NCCL)
sf::result<void> nccl_checked(const char* call, ncclResult_t outcome) {
    if (outcome == ncclSuccess) return {};
    sf::failure out{.code = sf::errc::device_failed, .detail = call};
    out.detail.append(": ");
    out.detail.append(ncclGetErrorString(outcome));
    return out;
}
#endif

/// Size of a tensor in a gathered block: includes room for the last rank's stride.
std::uint64_t gathered_bytes(std::uint64_t size_bytes, std::uint64_t ranks) {
    return sf::share_of(size_bytes, 0, ranks).stride_bytes * ranks;
}

}  // namespace

int main(int argc, char** argv) {
    command_line::arguments arguments{argc, argv,
                                      "usage: replicate_to_gpus CHECKPOINT [options]\n"
                                      "Loads a model onto several GPUs and prints how fast.\n"
                                      "  --mode MODE      slices (default), replicate, gather\n"
                                      "  --gpus N         how many; default all\n"
                                      "  --threads N      readers of each GPU; default 8\n"
                                      "  --rounds N       default 3\n"
                                      "  --source KIND    mapped (default) or positional\n"};
    const std::string mode = arguments.value("--mode", "slices");
    int there = 0;
    static_cast<void>(cudaGetDeviceCount(&there));
    const auto gpus = static_cast<std::size_t>(
        arguments.count("--gpus", static_cast<std::uint64_t>(std::max(there, 1))));
    const auto threads = static_cast<std::size_t>(arguments.count("--threads", 8));
    const std::uint64_t rounds = arguments.count("--rounds", 3);
    if (mode != "slices" && mode != "replicate" && mode != "gather")
        arguments.complain("--mode is slices, replicate or gather");
#if !defined(GPU_HAS_NCCL)
    if (mode == "gather")
        arguments.complain("--mode gather needs NCCL, and this program was compiled without it");
#endif
    if (!arguments.positional(1)) return arguments.status();
    const std::string path = arguments[0];

    const auto checkpoint = sf::checkpoint::open(path);
    if (!checkpoint) return command_line::report(checkpoint.error());
    auto family = choose_family::choose(
        convert_checkpoint::text_of(convert_checkpoint::directory_of(path)), *checkpoint, {});
    if (!family) return command_line::report(family.error());
    std::vector<gpu::device_model> models;
    for (std::size_t rank = 0; rank < (mode == "slices" ? gpus : 1); ++rank) {
        auto made = gpu::device_model::make(*checkpoint, family->family, family->options(),
                                            {.rank = rank, .ranks = mode == "slices" ? gpus : 1});
        if (!made) return command_line::report(made.error());
        models.push_back(std::move(*made));
    }

    // In gather mode, tensors are further apart, so that every rank's share has the same size.
    const gpu::device_model& whole = models[0];
    std::vector<std::uint64_t> offsets;
    std::uint64_t gathered_block = 0;
    for (const gpu::placed_tensor& each : whole.tensors()) {
        offsets.push_back(gathered_block);
        gathered_block += gathered_bytes(each.size_bytes, gpus);
    }

    std::vector<rank_state> ranks(gpus);
    for (std::size_t rank = 0; rank < gpus; ++rank) {
        rank_state& mine = ranks[rank];
        mine.model = &models[mode == "slices" ? rank : 0];
        auto device = gpu::cuda_device::make(static_cast<int>(rank));
        if (!device) return command_line::report(device.error());
        mine.device.emplace(std::move(*device));
        auto block = gpu::device_memory::allocate(
            static_cast<int>(rank), mode == "gather" ? gathered_block : mine.model->block_bytes());
        if (!block) return command_line::report(block.error());
        mine.block.emplace(std::move(*block));
        auto loader =
            sf::staged_loader<gpu::cuda_device>::make(*mine.device, {.slab_count = 2 * threads});
        if (!loader) return command_line::report(loader.error());
        mine.loader.emplace(std::move(*loader));
        auto readers = sf::standing_threads::make(threads);
        if (!readers) return command_line::report(readers.error());
        mine.readers.emplace(std::move(*readers));
    }
#if defined(GPU_HAS_NCCL)
    std::vector<ncclComm_t> communicators(gpus);
    std::vector<cudaStream_t> streams(gpus);
    if (mode == "gather") {
        std::vector<int> numbers;
        for (std::size_t rank = 0; rank < gpus; ++rank) numbers.push_back(static_cast<int>(rank));
        if (auto made = nccl_checked(
                "ncclCommInitAll",
                ncclCommInitAll(communicators.data(), static_cast<int>(gpus), numbers.data()));
            !made)
            return command_line::report(made.error());
        for (std::size_t rank = 0; rank < gpus; ++rank) {
            const gpu::current_device current{static_cast<int>(rank)};
            if (auto made =
                    gpu::checked("cudaStreamCreate",
                                 cudaStreamCreateWithFlags(&streams[rank], cudaStreamNonBlocking));
                !made)
                return command_line::report(made.error());
        }
    }
#endif

    const auto load_one = [&](std::size_t rank) -> sf::result<void> {
        rank_state& mine = ranks[rank];
        sf::result<void> done;
        if (mode == "gather") {
            std::size_t next = 0;
            done = mine.model->load(
                *mine.loader, mine.block->data(), *mine.readers,
                [&](std::byte* to, const gpu::placed_tensor& tensor) {
                    const sf::byte_share share = sf::share_of(tensor.size_bytes, rank, gpus);
                    return sf::staged_target<std::byte*>{to, offsets[next++] + share.begin,
                                                         share.size_bytes, share.begin};
                });
        } else {
            done = mine.model->load(*mine.loader, mine.block->data(), *mine.readers);
        }
        return done ? mine.loader->finish() : std::move(done);
    };

    std::uint64_t total_bytes = 0;
    for (const rank_state& each : ranks) total_bytes += each.model->tensor_bytes();
    for (std::uint64_t round = 0; round < rounds; ++round) {
        const command_line::stopwatch watch;
        std::vector<std::optional<sf::failure>> failures(gpus);
        std::vector<std::thread> running;
        for (std::size_t rank = 0; rank < gpus; ++rank)
            running.emplace_back([&, rank] {
                if (auto done = load_one(rank); !done) failures[rank] = std::move(done).error();
            });
        for (std::thread& each : running) each.join();
        for (const auto& each : failures)
            if (each) return command_line::report(*each);
        const double loaded = watch.seconds();
#if defined(GPU_HAS_NCCL)
        if (mode == "gather") {
            auto done = nccl_checked("ncclGroupStart", ncclGroupStart());
            for (std::size_t i = 0; i < offsets.size() && done; ++i)
                for (std::size_t rank = 0; rank < gpus && done; ++rank) {
                    const std::uint64_t stride =
                        sf::share_of(whole.tensors()[i].size_bytes, 0, gpus).stride_bytes;
                    std::byte* const all = ranks[rank].block->data() + offsets[i];
                    done = nccl_checked(
                        "ncclAllGather",
                        ncclAllGather(all + rank * stride, all, static_cast<std::size_t>(stride),
                                      ncclUint8, communicators[rank], streams[rank]));
                }
            if (done) done = nccl_checked("ncclGroupEnd", ncclGroupEnd());
            for (std::size_t rank = 0; rank < gpus && done; ++rank)
                done = gpu::checked("cudaStreamSynchronize", cudaStreamSynchronize(streams[rank]));
            if (!done) return command_line::report(done.error());
        }
#endif
        const double seconds = watch.seconds();
        std::printf(
            "%s on %zu GPUs: %s in %.3f s (reading %.3f s), %.2f GB/s in all, %.2f GB/s of the "
            "model\n",
            mode.c_str(), gpus, command_line::size_text(total_bytes).c_str(), seconds, loaded,
            static_cast<double>(total_bytes) / 1e9 / seconds,
            static_cast<double>(whole.tensor_bytes()) / 1e9 / seconds);
    }

    // Compare every GPU with the processor.
    std::vector<std::byte> expected;
    for (std::size_t m = 0; m < models.size(); ++m)
        for (std::size_t i = 0; i < models[m].tensors().size(); ++i) {
            const gpu::placed_tensor& tensor = models[m].tensors()[i];
            if (auto made = models[m].make_on_host(i, expected); !made)
                return command_line::report(made.error());
            const std::uint64_t wanted = gpu::checksum_of(expected.data(), expected.size());
            for (std::size_t rank = 0; rank < gpus; ++rank) {
                if (ranks[rank].model != &models[m]) continue;
                const gpu::current_device current{static_cast<int>(rank)};
                std::uint64_t sum = 0;
                const auto error = static_cast<cudaError_t>(gpu::checksum_on_device(
                    ranks[rank].block->data() + (mode == "gather" ? offsets[i] : tensor.offset),
                    static_cast<std::size_t>(tensor.size_bytes), sum));
                if (error != cudaSuccess)
                    return command_line::report(gpu::cuda_failure("checksum", error));
                if (sum != wanted)
                    return command_line::report({.code = sf::errc::bytes_differ,
                                                 .tensor = sf::text{tensor.name},
                                                 .detail = "on a device"});
            }
        }
    std::printf("verified: every tensor on %zu GPUs is what the processor makes of the files\n",
                gpus);
#if defined(GPU_HAS_NCCL)
    if (mode == "gather")
        for (std::size_t rank = 0; rank < gpus; ++rank) {
            static_cast<void>(ncclCommDestroy(communicators[rank]));
            static_cast<void>(cudaStreamDestroy(streams[rank]));
        }
#endif
    return command_line::success;
}
