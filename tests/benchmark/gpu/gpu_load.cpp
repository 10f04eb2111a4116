// Loads a checkpoint's fused experts into a GPU's memory, and copies page-locked memory there, once
// per question; run.py keeps this running. Questions are lines of words separated by tabs. Answers
// are one line of JSON:
//
//     pinned PIECE_BYTES TOTAL_BYTES STREAMS
//     load CHECKPOINT KEY=VALUE...   threads, slab_bytes, slabs, streams, source (mapped or
//                                    positional), engine, everything=1, times=N, sums=FILE
//                                    (checksums of all tensors, as lines of a name and a number)
//
// "failed WHY" reports a failure.
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "../../../examples/gpu/checksum.hpp"
#include "../../../examples/gpu/cuda_device.hpp"
#include "../../../examples/gpu/device_model.hpp"
#include "../../../examples/programs/convert_checkpoint.hpp"

namespace {

namespace sf = safefuse;

std::uint64_t status_bytes(const char* field) {
    std::FILE* const file = std::fopen("/proc/self/status", "r");
    if (file == nullptr) return 0;
    char line[256];
    unsigned long long kilobytes = 0;
    while (std::fgets(line, sizeof line, file) != nullptr)
        if (std::strncmp(line, field, std::strlen(field)) == 0)
            std::sscanf(line + std::strlen(field), ": %llu", &kilobytes);
    std::fclose(file);
    return kilobytes * 1024;
}
std::uint64_t device_bytes_in_use() {
    std::size_t free = 0, total = 0;
    static_cast<void>(cudaMemGetInfo(&free, &total));
    return total - free;
}

sf::result<void> copy_pinned(std::size_t piece, std::uint64_t total, std::size_t stream_count,
                             std::string& answer) {
    auto device = gpu::cuda_device::make(0, stream_count);
    if (!device) return std::move(device).error();
    constexpr std::size_t most_pinned = std::size_t{1} << 30;
    const std::size_t pinned = piece > most_pinned ? piece : most_pinned / piece * piece;
    auto memory = device->allocate_staging(pinned);
    if (!memory) return std::move(memory).error();
    std::memset(memory->data, 1, pinned);
    auto block = gpu::device_memory::allocate(0, total);
    if (!block) return std::move(block).error();
    double best = 1e9;
    for (int round = 0; round < 3; ++round) {
        const command_line::stopwatch watch;
        std::size_t lane = 0;
        for (std::uint64_t at = 0; at + piece <= total; at += piece, ++lane)
            if (auto done = device->copy(block->data(), at,
                                         {memory->data + at % pinned / piece * piece, piece}, lane);
                !done)
                return done;
        for (cudaStream_t each : device->streams())
            if (auto done = gpu::checked("cudaStreamSynchronize", cudaStreamSynchronize(each));
                !done)
                return done;
        best = std::min(best, watch.seconds());
    }
    device->free_staging(*memory);
    char text[200];
    std::snprintf(text, sizeof text, "{\"seconds\": %.6f, \"bytes\": %llu}", best,
                  static_cast<unsigned long long>(total / piece * piece));
    answer = text;
    return {};
}

template <class Source>
sf::result<void> load(const std::string& path, std::map<std::string, std::string>& options,
                      std::string& answer) {
    const auto number = [&](const char* key, std::uint64_t otherwise) {
        return options.count(key) != 0 ? std::strtoull(options[key].c_str(), nullptr, 10)
                                       : otherwise;
    };
    const std::uint64_t anonymous_before = status_bytes("RssAnon"),
                        device_before = device_bytes_in_use();
    const command_line::stopwatch whole;
    const auto checkpoint = sf::basic_checkpoint<Source>::open(path);
    if (!checkpoint) return checkpoint.error();
    auto family = choose_family::choose(
        convert_checkpoint::text_of(convert_checkpoint::directory_of(path)), *checkpoint, {});
    if (!family) return std::move(family).error();
    gpu::model_part part{.experts_only = number("everything", 0) == 0};
    if (options.count("engine") != 0) {
        const auto* const engine = sf::find_engine(options["engine"]);
        if (engine == nullptr) return sf::failure{.code = sf::errc::unknown_family};
        part.experts = engine->layout;
    }
    const auto model =
        gpu::device_model::make(*checkpoint, family->family, family->options(), part);
    if (!model) return model.error();
    const double planned = whole.seconds();
    auto device = gpu::cuda_device::make(0, static_cast<std::size_t>(number("streams", 1)));
    if (!device) return std::move(device).error();
    auto block = gpu::device_memory::allocate(0, model->block_bytes());
    if (!block) return std::move(block).error();
    sf::staging_options staging;
    staging.slab_bytes = static_cast<std::size_t>(number("slab_bytes", staging.slab_bytes));
    staging.slab_count = static_cast<std::size_t>(number("slabs", staging.slab_count));
    auto loader = sf::staged_loader<gpu::cuda_device>::make(*device, staging);
    if (!loader) return std::move(loader).error();
    auto readers = sf::standing_threads::make(
        static_cast<std::size_t>(number("threads", sf::default_reader_count())));
    if (!readers) return std::move(readers).error();
    const double allocated = whole.seconds();
    double first = 0, best = 1e9;
    for (std::uint64_t i = 0; i < number("times", 1); ++i) {
        const command_line::stopwatch watch;
        auto done = model->load(*loader, block->data(), *readers);
        if (done) done = loader->finish();
        if (!done) return done;
        best = std::min(best, watch.seconds());
        if (i == 0) first = watch.seconds();
    }
    const std::uint64_t device_used = device_bytes_in_use() - device_before;
    const std::uint64_t anonymous_after = status_bytes("RssAnon");
    const std::uint64_t anonymous =
        anonymous_after > anonymous_before ? anonymous_after - anonymous_before : 0;
    if (options.count("sums") != 0) {
        std::FILE* const file = std::fopen(options["sums"].c_str(), "w");
        if (file == nullptr)
            return sf::failure{.code = sf::errc::io_error, .file = sf::text{options["sums"]}};
        for (const gpu::placed_tensor& tensor : model->tensors()) {
            std::uint64_t sum = 0;
            const auto error = static_cast<cudaError_t>(gpu::checksum_on_device(
                block->data() + tensor.offset, static_cast<std::size_t>(tensor.size_bytes), sum));
            if (error != cudaSuccess) return gpu::cuda_failure("checksum", error);
            std::fprintf(file, "%s %llu\n", tensor.name.c_str(),
                         static_cast<unsigned long long>(sum));
        }
        std::fclose(file);
    }
    char text[600];
    std::snprintf(
        text, sizeof text,
        "{\"seconds\": %.6f, \"best_seconds\": %.6f, \"whole_seconds\": %.6f, \"plan_seconds\": "
        "%.6f, "
        "\"allocate_seconds\": %.6f, \"bytes\": %llu, \"device_bytes\": %llu, \"pinned_bytes\": "
        "%llu, "
        "\"anonymous_bytes\": %llu}",
        first, best, allocated + first, planned, allocated - planned,
        static_cast<unsigned long long>(model->tensor_bytes()),
        static_cast<unsigned long long>(device_used),
        static_cast<unsigned long long>(loader->staging_bytes()),
        static_cast<unsigned long long>(anonymous));
    answer = text;
    return {};
}

}  // namespace

int main() {
    static_cast<void>(cudaFree(nullptr));  // create the context before anything is timed
    std::string line;
    while (std::getline(std::cin, line)) {
        std::vector<std::string> words;
        std::istringstream split{line};
        for (std::string word; std::getline(split, word, '\t');) words.push_back(word);
        std::string answer;
        sf::result<void> done;
        if (words.size() == 4 && words[0] == "pinned") {
            done = copy_pinned(std::stoull(words[1]), std::stoull(words[2]), std::stoull(words[3]),
                               answer);
        } else if (words.size() >= 2 && words[0] == "load") {
            std::map<std::string, std::string> options;
            for (std::size_t i = 2; i < words.size(); ++i)
                if (const auto equal = words[i].find('='); equal != std::string::npos)
                    options[words[i].substr(0, equal)] = words[i].substr(equal + 1);
            done = options["source"] == "positional"
                       ? load<sf::positional_file>(words[1], options, answer)
                       : load<sf::mapped_file>(words[1], options, answer);
        } else {
            done = sf::failure{.code = sf::errc::io_error, .detail = "no such question"};
        }
        if (done)
            std::printf("%s\n", answer.c_str());
        else
            std::printf("failed %s\n", done.error().message().c_str());
        std::fflush(stdout);
    }
}
