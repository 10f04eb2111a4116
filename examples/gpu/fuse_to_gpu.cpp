// How do I load a whole model into a GPU's memory and fuse its experts on the way?
#include <cstdio>
#include <string>
#include <vector>

#include "../programs/convert_checkpoint.hpp"
#include "checksum.hpp"
#include "cuda_device.hpp"
#include "device_model.hpp"

namespace {

namespace sf = safefuse;

struct choices {
    std::string path, family;
    gpu::model_part part;
    int device = 0;
    std::size_t threads = sf::default_reader_count(), streams = 1;
    sf::staging_options staging;
    bool verify = false, quiet = false;
};

/// Compares each tensor with what the processor makes from the same files.
sf::result<void> verify(const gpu::device_model& model, const std::byte* block) {
    std::vector<std::byte> expected;
    for (std::size_t i = 0; i < model.tensors().size(); ++i) {
        const gpu::placed_tensor& tensor = model.tensors()[i];
        if (auto made = model.make_on_host(i, expected); !made) return made;
        std::uint64_t there = 0;
        const auto error = static_cast<cudaError_t>(gpu::checksum_on_device(
            block + tensor.offset, static_cast<std::size_t>(tensor.size_bytes), there));
        if (error != cudaSuccess) return gpu::cuda_failure("checksum", error);
        if (there != gpu::checksum_of(expected.data(), expected.size()))
            return sf::failure{.code = sf::errc::bytes_differ,
                               .tensor = sf::text{tensor.name},
                               .detail = "on the device"};
    }
    return {};
}

template <class Source>
sf::result<void> load(const choices& chosen) {
    const command_line::stopwatch opening;
    const auto checkpoint = sf::basic_checkpoint<Source>::open(chosen.path);
    if (!checkpoint) return checkpoint.error();
    auto family = choose_family::choose(
        convert_checkpoint::text_of(convert_checkpoint::directory_of(chosen.path)), *checkpoint,
        {.family = chosen.family});
    if (!family) return std::move(family).error();
    const auto model =
        gpu::device_model::make(*checkpoint, family->family, family->options(), chosen.part);
    if (!model) return model.error();
    const double open_seconds = opening.seconds();

    const command_line::stopwatch allocating;
    auto device = gpu::cuda_device::make(chosen.device, chosen.streams);
    if (!device) return std::move(device).error();
    auto block = gpu::device_memory::allocate(chosen.device, model->block_bytes());
    if (!block) return std::move(block).error();
    auto loader = sf::staged_loader<gpu::cuda_device>::make(*device, chosen.staging);
    if (!loader) return std::move(loader).error();
    auto readers = sf::standing_threads::make(chosen.threads);
    if (!readers) return std::move(readers).error();
    const double allocate_seconds = allocating.seconds();

    const command_line::stopwatch loading;
    auto done = model->load(*loader, block->data(), *readers);
    if (done) done = loader->finish();
    if (!done) return done;
    const double seconds = loading.seconds();
    std::printf("loaded: %zu tensors, %zu experts modules, %s in %.3f s, %.2f GB/s\n",
                model->tensors().size(), model->plans().size(),
                command_line::size_text(model->tensor_bytes()).c_str(), seconds,
                static_cast<double>(model->tensor_bytes()) / 1e9 / seconds);
    std::printf(
        "before: %.3f s to open and plan, %.3f s to allocate; page-locked %s, device memory %s\n",
        open_seconds, allocate_seconds, command_line::size_text(loader->staging_bytes()).c_str(),
        command_line::size_text(block->size_bytes()).c_str());

    const gpu::current_device current{chosen.device};
    std::uint64_t all = 0;
    for (const gpu::placed_tensor& tensor : model->tensors()) {
        std::uint64_t sum = 0;
        const auto error = static_cast<cudaError_t>(gpu::checksum_on_device(
            block->data() + tensor.offset, static_cast<std::size_t>(tensor.size_bytes), sum));
        if (error != cudaSuccess) return gpu::cuda_failure("checksum", error);
        all = all * 31 + sum;
    }
    std::printf("checksum: %016llx\n", static_cast<unsigned long long>(all));
    if (chosen.verify) {
        if (auto same = verify(*model, block->data()); !same) return same;
        std::printf(
            "verified: every tensor on the device is what the processor makes of the files\n");
    }
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    command_line::arguments arguments{
        argc, argv,
        "usage: fuse_to_gpu CHECKPOINT [options]\n"
        "Loads a whole model into a GPU's memory, the experts of each layer fused, and prints how\n"
        "fast.\n"
        "  --family NAME      default: that of config.json, else what the names tell\n"
        "  --engine NAME      experts as an engine has them: vllm, tensorrt_llm, automodel, ...\n"
        "  --rank R --ranks N the R-th of N equal shares of each layer's experts\n"
        "  --experts-only     no other tensors\n"
        "  --device D         number of the GPU; default 0\n"
        "  --threads N        readers; default seven eighths of the processors, at most 14\n"
        "  --slab-size S      of page-locked memory; default 3145728\n"
        "  --slabs N          how many of these; default 28\n"
        "  --streams N        of the GPU's; default 1\n"
        "  --source KIND      mapped (default) or positional\n"
        "  --verify           compares every tensor with what the processor makes\n"};
    choices chosen;
    chosen.family = arguments.value("--family", "");
    const std::string engine = arguments.value("--engine", "");
    const std::string rank = arguments.value("--rank", "0"),
                      device = arguments.value("--device", "0");
    chosen.part.rank = std::strtoull(rank.c_str(), nullptr, 10);
    chosen.device = static_cast<int>(std::strtol(device.c_str(), nullptr, 10));
    chosen.part.ranks = arguments.count("--ranks", 1);
    chosen.part.experts_only = arguments.flag("--experts-only");
    chosen.threads = static_cast<std::size_t>(arguments.count("--threads", chosen.threads));
    chosen.streams = static_cast<std::size_t>(arguments.count("--streams", chosen.streams));
    chosen.staging.slab_bytes =
        static_cast<std::size_t>(arguments.size("--slab-size", chosen.staging.slab_bytes));
    chosen.staging.slab_count =
        static_cast<std::size_t>(arguments.count("--slabs", chosen.staging.slab_count));
    const std::string source = arguments.value("--source", "mapped");
    chosen.verify = arguments.flag("--verify");
    if (chosen.part.rank >= chosen.part.ranks) arguments.complain("--rank is less than --ranks");
    if (source != "mapped" && source != "positional")
        arguments.complain("--source is mapped or positional");
    if (!engine.empty()) {
        const sf::engine_entry* const found = sf::find_engine(engine);
        if (found == nullptr) arguments.complain("unknown engine " + engine);
        if (found != nullptr) chosen.part.experts = found->layout;
    }
    if (!arguments.positional(1)) return arguments.status();
    chosen.path = arguments[0];
    const auto done =
        source == "mapped" ? load<sf::mapped_file>(chosen) : load<sf::positional_file>(chosen);
    return done ? command_line::success : command_line::report(done.error());
}
