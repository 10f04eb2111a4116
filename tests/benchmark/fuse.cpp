// How fast is fusing into memory, compared with the limits of copying the same bytes? Reports only.
// Sources are files in the page cache. Outputs are memory that was touched before, unless a case
// says "fresh".
//
//     benchmark_fuse [MEGABYTES] [options of measure.hpp]
#include <safefuse/io/huge_page_buffer.hpp>
#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/parallel.hpp>
#include <safefuse/write/checkpoint_writer.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engines.hpp"
#include "measure.hpp"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define BENCHMARK_HAS_STREAMING
#endif

namespace sf = safefuse;

namespace {

using buffers = std::vector<std::span<std::byte>>;

/// The widest streaming stores of this processor, one line after the other. Used only as a limit.
#if defined(BENCHMARK_HAS_STREAMING)
[[gnu::target("avx512f")]] void stream_by_64(std::byte* to, const std::byte* from,
                                             std::size_t size) {
    for (std::size_t i = 0; i + 64 <= size; i += 64)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
    _mm_sfence();
}
[[gnu::target("avx2")]] void stream_by_32(std::byte* to, const std::byte* from, std::size_t size) {
    for (std::size_t i = 0; i + 32 <= size; i += 32)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
    _mm_sfence();
}
void stream_by_16(std::byte* to, const std::byte* from, std::size_t size) {
    for (std::size_t i = 0; i + 16 <= size; i += 16)
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    _mm_sfence();
}
void stream(std::byte* to, const std::byte* from, std::size_t size) {
    if (__builtin_cpu_supports("avx512f") != 0) return stream_by_64(to, from, size);
    if (__builtin_cpu_supports("avx2") != 0) return stream_by_32(to, from, size);
    return stream_by_16(to, from, size);
}
#endif

/// The same work on both halves at once.
template <class Work>
void in_two(std::size_t size, const Work& work) {
    const std::size_t half = size / 2 / 4096 * 4096;
    std::thread other{[&] { work(half, size - half); }};
    work(0, half);
    other.join();
}

/// A file of experts, read in two ways, and memory to fuse it into.
class scene {
public:
    scene(measure::program& of, std::uint64_t bytes, std::uint64_t inner, std::uint64_t hidden)
        : of_{of} {
        const std::uint64_t wide[] = {inner, hidden}, tall[] = {hidden, inner},
                            matrix_bytes = inner * hidden * 2;
        const std::uint64_t experts = bytes / 3 / matrix_bytes == 0 ? 1 : bytes / 3 / matrix_bytes;
        std::vector<std::string> names;
        for (std::uint64_t e = 0; e < experts; ++e)
            for (const char* part : {"down_proj", "gate_proj", "up_proj"})
                names.push_back("mlp.experts." + std::to_string(e) + '.' + part + ".weight");
        std::vector<sf::tensor_spec> specs;
        for (std::size_t i = 0; i < names.size(); ++i)
            specs.push_back({names[i], sf::dtype::bf16,
                             i % 3 == 0 ? sf::shape_view{tall} : sf::shape_view{wide}});
        static int number = 0;
        path_ = (of.work() / ("fuse-" + std::to_string(number++) + ".safetensors")).string();
        auto writer = sf::tensor_file_writer::create(path_, specs);
        if (!writer) {
            of.fail(std::string{writer.error().message().view()});
            return;
        }
        std::vector<std::uint64_t> data(matrix_bytes / 8);
        for (std::size_t i = 0; i < data.size(); ++i) data[i] = i * 0x9E37'79B9'7F4A'7C15u;
        for (std::size_t i = 0; i < names.size(); ++i)
            if (auto written = writer->write(i, 0, std::as_bytes(std::span{data})); !written) {
                of.fail(std::string{written.error().message().view()});
                return;
            }
        if (auto done = writer->commit(); !done) {
            of.fail(std::string{done.error().message().view()});
            return;
        }

        // read the file into the page cache; the OS would otherwise keep the pieces in which it was
        // written
        if (const auto file = sf::positional_file::open(path_); file) {
            file->advise(0, file->size_bytes(), sf::advice::done_with);
            std::vector<std::byte> piece(std::size_t{4} << 20);
            for (std::uint64_t at = 0; at < file->size_bytes(); at += piece.size())
                static_cast<void>(file->read(
                    at, std::span{piece}.first(static_cast<std::size_t>(
                            std::min<std::uint64_t>(piece.size(), file->size_bytes() - at)))));
        }
        auto mapped = sf::checkpoint::open(path_);
        auto positional = sf::basic_checkpoint<sf::positional_file>::open(path_);
        auto memory = sf::huge_page_buffer::make(experts * 3 * matrix_bytes);
        if (!mapped || !positional || !memory) {
            of.fail("cannot open " + path_);
            return;
        }
        mapped_ = std::make_unique<sf::checkpoint>(std::move(*mapped));
        positional_ =
            std::make_unique<sf::basic_checkpoint<sf::positional_file>>(std::move(*positional));
        memory_ = std::move(*memory);
        std::memset(memory_.bytes().data(), 1, memory_.size_bytes());
        first_ = mapped_->find(names[0])->bytes().data();
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;
    ~scene() {
        std::error_code ignored;
        std::filesystem::remove(path_, ignored);
    }

    [[nodiscard]] bool is_made() const { return first_ != nullptr; }
    [[nodiscard]] std::size_t size() const { return memory_.size_bytes(); }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const sf::checkpoint& mapped() const { return *mapped_; }
    [[nodiscard]] const sf::basic_checkpoint<sf::positional_file>& positional() const {
        return *positional_;
    }
    std::byte* memory() { return memory_.bytes().data(); }

    /// Brings every page of the source into the page cache and maps it.
    void warm() const {
        unsigned sum = 0;
        for (std::size_t i = 0; i < size(); i += 4096) sum += std::to_integer<unsigned>(first_[i]);
        measure::keep(sum);
    }
    [[nodiscard]] std::function<void()> warmed() const {
        return [this] { warm(); };
    }

    /// Adds memcpy and streaming stores of the same bytes, from one end to the other.
    void add_limits(measure::race& race, bool two) {
        race.add("memcpy", [this] { std::memcpy(memory(), first_, size()); }, warmed());
#if defined(BENCHMARK_HAS_STREAMING)
        race.add("streaming stores", [this] { stream(memory(), first_, size()); }, warmed());
#endif
        if (!two) return;
        race.add(
            "memcpy, 2 threads",
            [this] {
                in_two(size(), [this](std::size_t at, std::size_t count) {
                    std::memcpy(memory() + at, first_ + at, count);
                });
            },
            warmed());
#if defined(BENCHMARK_HAS_STREAMING)
        race.add(
            "streaming stores, 2 threads",
            [this] {
                in_two(size(), [this](std::size_t at, std::size_t count) {
                    stream(memory() + at, first_ + at, count);
                });
            },
            warmed());
#endif
    }
    template <class Family, class Checkpoint>
    void add(measure::race& race, const std::string& name, const Checkpoint& from,
             std::size_t threads) {
        auto plan = sf::plan<Family>(from, "mlp.experts");
        if (!plan) return of_.fail(std::string{plan.error().message().view()});
        auto kept = std::make_shared<sf::copy_plan>(std::move(*plan));
        race.add(
            name,
            [this, kept, threads] {
                check(threads == 1
                          ? sf::fuse(*kept, outputs(*kept, memory()))
                          : sf::fuse(*kept, outputs(*kept, memory()), sf::threads{threads}));
            },
            warmed());
    }
    static buffers outputs(const sf::copy_plan& plan, std::byte* memory) {
        buffers out;
        std::size_t used = 0;
        for (const sf::plan_output& each : plan.outputs()) {
            out.emplace_back(memory + used, static_cast<std::size_t>(each.size_bytes));
            used += out.back().size();
        }
        return out;
    }
    void check(const sf::result<void>& done) {
        if (!done) of_.fail(std::string{done.error().message().view()});
    }

private:
    measure::program& of_;
    std::string path_;
    std::unique_ptr<sf::checkpoint> mapped_;
    std::unique_ptr<sf::basic_checkpoint<sf::positional_file>> positional_;
    sf::huge_page_buffer memory_;
    const std::byte* first_ = nullptr;
};

#if defined(BENCHMARK_HAS_STREAMING)
const std::string limit = "streaming stores";
#else
const std::string limit = "memcpy";
#endif

template <class Family>
void run_layout(measure::program& program, scene& from, const std::string& name,
                measure::python_peer* peers) {
    measure::race race{program, name};
    from.add_limits(race, true);
    from.add<Family>(race, "safefuse", from.mapped(), 1);
    from.add<Family>(race, "safefuse, 2 threads", from.mapped(), 2);
    from.add<Family>(race, "safefuse, positional", from.positional(), 1);
    from.add<Family>(race, "safefuse, positional, 2 threads", from.positional(), 2);
    if (peers != nullptr)
        for (const char* threads : {"1", "2"})
            peers->enter(program, race,
                         std::string{"torch cat + stack, "} + threads +
                             (*threads == '1' ? " thread" : " threads"),
                         {"fuse", "torch", from.path(), threads, "reused"});
    if (peers != nullptr)
        peers->enter(program, race, "numpy concatenate + stack",
                     {"fuse", "numpy", from.path(), "1", "reused"});
    race.run().report(measure::gigabytes_per_second(static_cast<double>(from.size())), limit);
    if (limit != "memcpy")
        std::printf(
            "  of the better limit: %.2f by one thread, %.2f by two; positional of mapped %.2f "
            "and %.2f\n",
            std::min(race.ratio("safefuse", limit), race.ratio("safefuse", "memcpy")),
            std::min(race.ratio("safefuse, 2 threads", limit + ", 2 threads"),
                     race.ratio("safefuse, 2 threads", "memcpy, 2 threads")),
            race.ratio("safefuse, positional", "safefuse"),
            race.ratio("safefuse, positional, 2 threads", "safefuse, 2 threads"));
}

/// Outputs in memory that was not touched before, freed after each round.
void run_fresh(measure::program& program, scene& from, measure::python_peer& peers) {
    const auto plan = sf::plan<sf::families::qwen2_moe>(from.mapped(), "mlp.experts");
    if (!plan) return program.fail(std::string{plan.error().message().view()});
    measure::race race{program, "into fresh memory, experts of 3 MiB"};
    race.add("memset, malloc", [&] {
        std::byte* const memory = static_cast<std::byte*>(std::malloc(from.size()));
        if (memory != nullptr) std::memset(memory, 1, from.size());
        measure::keep(memory);
        std::free(memory);
    });
    race.add("memset, huge pages", [&] {
        auto memory = sf::huge_page_buffer::make(from.size());
        if (memory) std::memset(memory->bytes().data(), 1, from.size());
        measure::keep(memory);
    });
    const auto ours = [&](std::size_t threads) {
        return [&, threads] {
            auto memory = sf::huge_page_buffer::make(from.size());
            if (!memory) return program.fail("no memory");
            const buffers out = scene::outputs(*plan, memory->bytes().data());
            from.check(threads == 1 ? sf::fuse(*plan, out)
                                    : sf::fuse(*plan, out, sf::threads{threads}));
        };
    };
    race.add(
        "safefuse, malloc",
        [&] {
            std::byte* const memory = static_cast<std::byte*>(std::malloc(from.size()));
            if (memory != nullptr) from.check(sf::fuse(*plan, scene::outputs(*plan, memory)));
            std::free(memory);
        },
        from.warmed());
    race.add("safefuse, huge_page_buffer", ours(1), from.warmed());
    race.add("safefuse, huge_page_buffer, 2 threads", ours(2), from.warmed());
    peers.enter(program, race, "torch cat + stack, 2 threads",
                {"fuse", "torch", from.path(), "2", "fresh"});
    race.run().report(measure::gigabytes_per_second(static_cast<double>(from.size())),
                      "memset, malloc");
}

}  // namespace

int main(int argc, char** argv) {
    measure::program program{"fuse", argc, argv, 7};
    const std::uint64_t bytes = program.number(0, program.is_small() ? 100 : 600) * 1'000'000;
    measure::python_peer peers{program};
    struct size {
        const char* name;
        std::uint64_t inner, hidden;
    };
    for (const size& each :
         {size{"64 KiB", 128, 256}, size{"1 MiB", 512, 1024}, size{"100 MiB", 5120, 10240}}) {
        scene from{program, bytes, each.inner, each.hidden};
        if (from.is_made())
            run_layout<sf::families::qwen2_moe>(
                program, from, std::string{"concat and stack, experts of "} + each.name, nullptr);
    }
    scene from{program, bytes, 768, 2048};
    if (!from.is_made()) return program.finish();
    run_layout<sf::families::qwen2_moe>(program, from, "concat and stack, experts of 3 MiB",
                                        &peers);
    run_layout<engines::rows_in_turn>(program, from, "rows in turn, experts of 3 MiB", nullptr);
    run_layout<engines::groups_in_turn>(program, from, "64 rows in turn, experts of 3 MiB",
                                        nullptr);
    run_layout<engines::transposed>(program, from, "transposed, experts of 3 MiB", nullptr);
    run_fresh(program, from, peers);

    const auto specs = sf::plan<sf::families::qwen2_moe>(from.mapped(), "mlp.experts");
    measure::race planning{program, "plan"};
    planning.add("safefuse", [&] {
        measure::keep(sf::plan<sf::families::qwen2_moe>(from.mapped(), "mlp.experts"));
    });
    planning.run().report(
        measure::nanoseconds_per("tensor", static_cast<double>(from.mapped().size())));
    return program.finish();
}
