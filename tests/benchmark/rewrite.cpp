// How fast is rewriting a whole checkpoint, compared with copying its files? Reports only.
//
//     benchmark_rewrite [MEGABYTES] [options of measure.hpp]
//
// The source is read into the page cache before each turn. All contenders have the same durability:
// first until every byte is on the disk (fsync of each file), then without waiting for the disk.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/write/rewrite.hpp>

#include "engines.hpp"
#include "measure.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace fs = std::filesystem;
namespace sf = safefuse;

namespace {

int failed(const sf::failure& why) {
    std::fprintf(stderr, "error: %s\n", why.message().c_str());
    return 1;
}

/// Qwen3-30B-A3B's experts, as many layers of 64 as fit, in shards of a third.
sf::result<void> make_checkpoint(const std::string& directory, std::uint64_t bytes) {
    constexpr std::uint64_t inner[] = {768, 2048}, outer[] = {2048, 768},
                            matrix_bytes = 768 * 2048 * 2;
    std::vector<std::string> names;
    for (std::uint64_t i = 0; i * 3 * matrix_bytes < bytes; ++i)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            names.push_back("model.layers." + std::to_string(i / 64) + ".mlp.experts." +
                            std::to_string(i % 64) + '.' + part + ".weight");
    std::sort(names.begin(), names.end());
    std::vector<sf::tensor_spec> specs;
    for (const std::string& name : names)
        specs.push_back({name, sf::dtype::bf16,
                         name.find("down") == std::string::npos ? sf::shape_view{inner}
                                                                : sf::shape_view{outer}});
    auto writer = sf::checkpoint_writer::create(directory, specs,
                                                {.max_shard_bytes = bytes / 3 + matrix_bytes});
    if (!writer) return std::move(writer).error();
    std::vector<std::uint64_t> data(matrix_bytes / 8);
    std::mt19937_64 random{1};
    for (std::uint64_t& word : data) word = random();
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        auto file = writer->open_shard(shard);
        if (!file) return std::move(file).error();
        for (std::size_t i = 0; i < writer->tensors_of(shard).size(); ++i) {
            data[i % data.size()] = random();
            if (auto written = file->write(i, 0, std::as_bytes(std::span{data})); !written)
                return written;
        }
        if (auto committed = file->commit(); !committed) return committed;
    }
    return writer->finish();
}

std::vector<fs::path> files_of(const std::string& directory) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator{directory}) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

/// Brings the source into the page cache.
void read_all(const std::string& directory) {
    std::vector<char> buffer(1 << 20);
    for (const fs::path& each : files_of(directory)) {
        std::FILE* const file = std::fopen(each.string().c_str(), "rb");
        while (file != nullptr &&
               std::fread(buffer.data(), 1, buffer.size(), file) == buffer.size()) {
        }
        if (file != nullptr) std::fclose(file);
    }
}

#if defined(__unix__) || defined(__APPLE__)
/// Copies each file of a directory with `copy(from, to, size)`.
bool copy_files(const std::string& from, const std::string& to, bool synced,
                const std::function<bool(int, int, std::size_t)>& copy) {
    fs::create_directory(to);
    bool good = true;
    for (const fs::path& each : files_of(from)) {
        const int in = ::open(each.c_str(), O_RDONLY),
                  out = ::open((fs::path{to} / each.filename()).c_str(), O_RDWR | O_CREAT | O_EXCL,
                               0666);
        good = good && in >= 0 && out >= 0 && copy(in, out, fs::file_size(each));
        if (synced) good = ::fsync(out) == 0 && good;
        ::close(in);
        ::close(out);
    }
    return good;
}

bool sync_files(const std::string& directory) {
    bool good = true;
    for (const fs::path& each : files_of(directory)) {
        const int file = ::open(each.c_str(), O_RDONLY);
        good = ::fsync(file) == 0 && good;
        ::close(file);
    }
    return good;
}

void reserve([[maybe_unused]] int out, [[maybe_unused]] std::size_t size) {
#if defined(__linux__)
    (void)!::fallocate(out, 0, 0, static_cast<off_t>(size));
#endif
}

bool write_from_mapping(int in, int out, std::size_t size, bool early) {
    if (size == 0) return true;
    reserve(out, size);
    char* const mapped = static_cast<char*>(::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, in, 0));
    if (mapped == MAP_FAILED) return false;
    bool good = true;
    for (std::size_t done = 0, started = 0; good && done < size;) {
        const ssize_t written =
            ::pwrite(out, mapped + done, std::min(size - done, std::size_t{512} << 10),
                     static_cast<off_t>(done));
        good = written > 0;
        if (good) done += static_cast<std::size_t>(written);
#if defined(SYNC_FILE_RANGE_WRITE)
        if (early && done - started >= std::size_t{32} << 20) {
            (void)::sync_file_range(out, static_cast<off_t>(started),
                                    static_cast<off_t>(done - started), SYNC_FILE_RANGE_WRITE);
            started = done;
        }
#endif
    }
    ::munmap(mapped, size);
    return good;
}

bool read_and_write(int in, int out, std::size_t size) {
    reserve(out, size);
    std::vector<char> buffer(std::size_t{4} << 20);
    for (std::size_t done = 0; done < size;) {
        const ssize_t got = ::pread(in, buffer.data(), buffer.size(), static_cast<off_t>(done));
        if (got <= 0 || ::pwrite(out, buffer.data(), static_cast<std::size_t>(got),
                                 static_cast<off_t>(done)) != got)
            return false;
        done += static_cast<std::size_t>(got);
    }
    return true;
}
#endif

struct contender {
    std::string name;
    std::function<bool(const std::string& from, const std::string& to, bool synced)> run;
};

template <class Family, class Source>
contender ours(const std::string& name) {
    return {name, [](const std::string& from, const std::string& to, bool synced) {
                const auto checkpoint = sf::basic_checkpoint<Source>::open(from);
                if (!checkpoint) return failed(checkpoint.error()) == 0;
                const auto plan = sf::rewrite_plan::make(*checkpoint, sf::description_of<Family>);
                if (!plan) return failed(plan.error()) == 0;
                const auto done = sf::rewrite(
                    *plan, to, {.wait = synced ? sf::durability::synced : sf::durability::renamed});
                return done || failed(done.error()) == 0;
            }};
}

}  // namespace

int main(int argc, char** argv) {
    measure::program program{"rewrite", argc, argv, 5};
    const std::uint64_t bytes = program.number(0, program.is_small() ? 60 : 512) * 1'000'000;
    const std::string from = (program.work() / "in").string(),
                      to = (program.work() / "out").string();
    if (auto made = make_checkpoint(from, bytes); !made) return failed(made.error());
    std::uint64_t total = 0;
    for (const fs::path& each : files_of(from)) total += fs::file_size(each);

    for (const bool synced : {true, false}) {
        std::vector<contender> contenders;
#if defined(__unix__) || defined(__APPLE__)
        contenders.push_back(
            {"cp -r", [](const std::string& in, const std::string& out, bool sync) {
                 return std::system(("cp -r '" + in + "' '" + out + "'").c_str()) == 0 &&
                        (!sync || sync_files(out));
             }});
#if defined(__linux__)
        contenders.push_back(
            {"copy_file_range", [](const std::string& in, const std::string& out, bool sync) {
                 return copy_files(
                     in, out, sync, [](int source, int destination, std::size_t size) {
                         while (size > 0) {
                             const ssize_t copied =
                                 ::copy_file_range(source, nullptr, destination, nullptr, size, 0);
                             if (copied <= 0) return false;
                             size -= static_cast<std::size_t>(copied);
                         }
                         return true;
                     });
             }});
#endif
        contenders.push_back({"read and write 4 MiB, reserved",
                              [](const std::string& in, const std::string& out, bool sync) {
                                  return copy_files(in, out, sync, read_and_write);
                              }});
        for (const bool early : {false, true})
            contenders.push_back(
                {early ? "write from a mapping, sent early" : "write from a mapping, reserved",
                 [early](const std::string& in, const std::string& out, bool sync) {
                     return copy_files(
                         in, out, sync, [early](int source, int destination, std::size_t size) {
                             return write_from_mapping(source, destination, size, early);
                         });
                 }});
#endif
        contenders.push_back(
            ours<sf::families::qwen2_moe, sf::mapped_file>("safefuse, concat and stack"));
        contenders.push_back(ours<sf::families::qwen2_moe, sf::positional_file>(
            "safefuse, concat and stack, positional"));
        contenders.push_back(
            ours<engines::rows_in_turn, sf::mapped_file>("safefuse, rows in turn"));
        contenders.push_back(
            ours<engines::rows_in_turn, sf::positional_file>("safefuse, rows in turn, positional"));
        contenders.push_back(
            ours<engines::groups_in_turn, sf::mapped_file>("safefuse, 64 rows in turn"));
        contenders.push_back(ours<engines::transposed, sf::mapped_file>("safefuse, transposed"));
        contenders.push_back(
            ours<engines::transposed, sf::positional_file>("safefuse, transposed, positional"));
        char size[32];
        std::snprintf(size, sizeof size, ", %.2f GB", static_cast<double>(total) / 1e9);
        measure::race race{
            program,
            (synced ? "until it is on the disk" : "not waiting for the disk") + std::string{size}};
        for (const contender& each : contenders)
            race.add(
                each.name,
                [&] {
                    if (!each.run(from, to, synced)) program.fail(each.name + " failed");
                },
                [&] { read_all(from); },
                [&, synced] {
#if defined(__unix__) || defined(__APPLE__)
                    if (!synced) sync_files(to);  // so that no contender waits for another's bytes
#endif
                    fs::remove_all(to);
                });
        race.run(0).report(measure::gigabytes_per_second(static_cast<double>(total)),
                           contenders[0].name);
        std::string best;
        for (const contender& each : contenders)
            if (!each.name.starts_with("safefuse") &&
                (best.empty() || race.seconds(each.name) < race.seconds(best)))
                best = each.name;
        if (!best.empty())
            std::printf("  best plain copy: %s; concat and stack go %.2f times as fast\n",
                        best.c_str(), race.ratio("safefuse, concat and stack", best));
    }
    return program.finish();
}
