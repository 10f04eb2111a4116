// What a killed rewrite leaves, and how the next one resumes it. At any moment the destination is
// absent, resumable or complete.
#include <safefuse/write/rewrite.hpp>
#include <safefuse/write/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/read/checkpoint.hpp>

#include "../../support/support.hpp"

#if !defined(_WIN32)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace sf = safefuse;
using support::read_file;
using support::temporary_directory;
using support::write_file;

namespace {

using qwen = sf::families::qwen2_moe;

// Makes the names, dtypes and shapes of qwen2_moe with other bytes.
struct up_first
    : sf::family<
          "up_first", sf::layouts::per_expert,
          sf::layout<sf::parameter_suffixes,
                     sf::tensor<"gate_up_proj",
                                sf::stack<sf::concat<0, sf::layouts::up, sf::layouts::gate>>>,
                     sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>> {};

std::vector<support::tensor> layer_of(int layer, std::uint64_t experts, std::uint64_t inner,
                                      std::uint64_t hidden) {
    const std::string name = "model.layers." + std::to_string(layer) + ".mlp";
    std::vector<support::tensor> out{support::bf16(name + ".gate.weight", {experts, hidden})};
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            out.push_back(
                support::bf16(name + ".experts." + std::to_string(e) + '.' + part + ".weight",
                              std::string_view{part} == "down_proj" ? std::vector{hidden, inner}
                                                                    : std::vector{inner, hidden}));
    return out;
}

/// A checkpoint with one layer per shard.
void write_layers(const std::string& directory, int layers, std::uint64_t experts = 4,
                  std::uint64_t inner = 32, std::uint64_t hidden = 48) {
    std::vector<support::shard> shards;
    for (int layer = 0; layer < layers; ++layer)
        shards.push_back({std::string{sf::shard_name("model", static_cast<std::uint64_t>(layer) + 1,
                                                     static_cast<std::uint64_t>(layers))
                                          .view()},
                          layer_of(layer, experts, inner, hidden)});
    std::filesystem::create_directories(directory);
    support::write_checkpoint(directory, shards);
}

std::vector<std::string> files_in(const std::string& directory) {
    std::set<std::string> names;
    if (std::filesystem::exists(directory))
        for (const auto& entry : std::filesystem::directory_iterator{directory})
            names.insert(entry.path().filename().string());
    return {names.begin(), names.end()};
}
std::size_t shards_in(const std::string& directory) {
    std::size_t count = 0;
    for (const std::string& name : files_in(directory))
        count += name.starts_with("model") && name.ends_with(".safetensors") ? 1u : 0u;
    return count;
}

constexpr std::uint64_t most = 30'000;  // one output of a layer, or two
constexpr sf::rewrite_options fresh{.max_shard_bytes = most, .wait = sf::durability::renamed};
constexpr sf::rewrite_options resumed{
    .max_shard_bytes = most, .wait = sf::durability::renamed, .resume = true};

/// Stops a rewrite after a number of progress calls.
struct stop_after {
    std::size_t left;
    bool operator()(const sf::run_progress&) { return left-- > 1; }
};

/// A checkpoint and the plan that fuses it.
struct source {
    sf::checkpoint set;
    sf::rewrite_plan plan;

    static std::unique_ptr<source> open(
        const std::string& path, const sf::family_description& family = sf::description_of<qwen>) {
        auto set = sf::checkpoint::open(path);
        REQUIRE(set);
        std::unique_ptr<source> made{new source{std::move(*set), family}};
        return made;
    }
    source(sf::checkpoint&& opened, const sf::family_description& family)
        : set{std::move(opened)}, plan{sf::rewrite_plan::make(set, family).value()} {}
};

void check_complete(const source& from, const std::string& directory) {
    const auto out = sf::checkpoint::open(directory);
    REQUIRE(out);
    CHECK(sf::verify_rewritten(from.plan, *out));
    for (const std::string& name : files_in(directory)) CHECK(!name.starts_with('.'));
    CHECK(sf::checkpoint::verify(directory).value().is_sound());
}

/// Leaves a destination with some complete shards.
void begin(const source& from, const std::string& directory,
           const sf::rewrite_options& options = fresh, std::size_t calls = 9) {
    stop_after stop{calls};
    const auto stopped = sf::rewrite(from.plan, directory, options, stop);
    REQUIRE(!stopped);
    CHECK(stopped.error().code == sf::errc::canceled);
    REQUIRE(shards_in(directory) > 0);
}

sf::errc code_of(const sf::result<sf::rewrite_summary>& came) {
    REQUIRE(!came);
    CHECK(!came.error().file.empty());
    return came.error().code;
}

}  // namespace

TEST_CASE("resume: complete shards are kept, the others are written, progress counts both") {
    const temporary_directory directory;
    write_layers(directory / "in", 5);
    const auto from = source::open(directory / "in");
    const auto whole = sf::rewrite(from->plan, directory / "whole", fresh);
    REQUIRE(whole);
    CHECK(whole->kept_shard_count == 0);
    for (std::size_t calls = 1; calls < 30; calls += 3) {
        CAPTURE(calls);
        const std::string to = directory / ("out" + std::to_string(calls));
        stop_after stop{calls};
        if (sf::rewrite(from->plan, to, fresh, stop)) continue;
        const std::size_t kept = shards_in(to);
        CHECK(files_in(to).size() == (kept == 0 ? 0 : kept + 1));
        std::map<std::string, std::filesystem::file_time_type> written;
        for (const std::string& name : files_in(to))
            written[name] = std::filesystem::last_write_time(to + '/' + name);
        std::uint64_t done = 0;
        auto watch = [&](const sf::run_progress& at) {
            CHECK(at.done_bytes > done);
            done = at.done_bytes;
            return true;
        };
        const auto again = sf::rewrite(from->plan, to, resumed, watch);
        REQUIRE(again);
        CHECK(done == from->plan.total_bytes());
        CHECK(again->shard_count == whole->shard_count);
        CHECK(again->kept_shard_count == kept);
        for (const auto& [name, time] : written)
            if (name.ends_with(".safetensors"))
                CHECK(std::filesystem::last_write_time(to + '/' + name) == time);
        check_complete(*from, to);
        CHECK(files_in(to) == files_in(directory / "whole"));
        for (const std::string& name : files_in(to))
            CHECK(read_file(to + '/' + name) == read_file(directory / "whole/" + name));
    }
}

TEST_CASE(
    "resume: without earlier files it starts; a complete or foreign checkpoint is refused and "
    "stays") {
    const temporary_directory directory;
    write_layers(directory / "in", 3);
    const auto from = source::open(directory / "in");
    REQUIRE(sf::rewrite(from->plan, directory / "absent", resumed));
    check_complete(*from, directory / "absent");
    std::filesystem::create_directory(directory / "empty");
    write_file(directory / "empty/config.json", "{}");
    REQUIRE(sf::rewrite(from->plan, directory / "empty", resumed));
    CHECK(code_of(sf::rewrite(from->plan, directory / "absent", resumed)) ==
          sf::errc::destination_not_empty);
    check_complete(*from, directory / "absent");

    begin(*from, directory / "begun");
    CHECK(code_of(sf::rewrite(from->plan, directory / "begun", fresh)) ==
          sf::errc::destination_not_empty);
    write_file(directory / "begun/other.safetensors", "mine");
    CHECK(code_of(sf::rewrite(from->plan, directory / "begun", resumed)) ==
          sf::errc::destination_not_empty);
    CHECK(read_file(directory / "begun/other.safetensors") == "mine");
    std::filesystem::remove(directory / "begun/other.safetensors");
    REQUIRE(sf::rewrite(from->plan, directory / "begun", resumed));
    check_complete(*from, directory / "begun");
}

TEST_CASE(
    "resume: another layout, split, metadata, alignment or source is another_rewrite, and nothing "
    "is mixed") {
    const temporary_directory directory;
    write_layers(directory / "in", 4);
    const auto from = source::open(directory / "in"),
               other_order = source::open(directory / "in", sf::description_of<up_first>);
    begin(*from, directory / "out");
    const auto before = files_in(directory / "out");
    const auto refused = [&](const sf::rewrite_plan& plan, sf::rewrite_options options) {
        options.resume = true;
        CHECK(code_of(sf::rewrite(plan, directory / "out", options)) == sf::errc::another_rewrite);
        CHECK(files_in(directory / "out") == before);
    };
    refused(other_order->plan, fresh);
    sf::rewrite_options options = fresh;
    options.max_shard_bytes = 2 * most;
    refused(from->plan, options);
    options = fresh;
    const sf::metadata_entry metadata[] = {{"format", "np"}};
    options.metadata = metadata;
    refused(from->plan, options);
    options = fresh;
    options.data_alignment = 4096;
    refused(from->plan, options);

    // the same tensors with other bytes
    std::filesystem::copy(directory / "in", directory / "copy");
    const std::string shard = directory / "copy/model-00002-of-00004.safetensors";
    std::filesystem::last_write_time(
        shard, std::filesystem::last_write_time(shard) + std::chrono::seconds{2});
    refused(source::open(directory / "copy")->plan, fresh);

    // the source under another name can be resumed
    std::filesystem::rename(directory / "in", directory / "moved");
    const auto moved = source::open(directory / "moved");
    REQUIRE(sf::rewrite(moved->plan, directory / "out", resumed));
    check_complete(*moved, directory / "out");
}

TEST_CASE(
    "resume: a wrong shard is written again; files of a killed run are removed, other files "
    "stay") {
    const temporary_directory directory;
    write_layers(directory / "in", 4);
    const auto from = source::open(directory / "in");
    const std::string to = directory / "out";
    begin(*from, to, fresh, 12);
    std::vector<std::string> shards;
    for (const std::string& name : files_in(to))
        if (name.ends_with(".safetensors")) shards.push_back(to + '/' + name);
    REQUIRE(shards.size() >= 2);
    std::filesystem::resize_file(shards[0], std::filesystem::file_size(shards[0]) - 1);
    std::string changed = read_file(shards[1]);
    changed[20] = static_cast<char>(changed[20] ^ 1);
    write_file(shards[1], changed);
    write_file(to + "/.model-00003-of-00004.safetensors.0123456789abcdef.tmp", "half");
    write_file(to + "/.model.safetensors.index.json.fedcba9876543210.tmp", "half");
    write_file(to + "/.model.safetensors.tmp", "mine");
    write_file(to + "/.modelling.py.0123456789abcdef.tmp", "mine");
    const auto again = sf::rewrite(from->plan, to, resumed);
    REQUIRE(again);
    CHECK(again->kept_shard_count == shards.size() - 2);
    CHECK(read_file(to + "/.model.safetensors.tmp") == "mine");
    CHECK(read_file(to + "/.modelling.py.0123456789abcdef.tmp") == "mine");
    std::filesystem::remove(to + "/.model.safetensors.tmp");
    std::filesystem::remove(to + "/.modelling.py.0123456789abcdef.tmp");
    check_complete(*from, to);
}

TEST_CASE(
    "resume: shards without a valid state are refused; an empty state without shards is ignored") {
    const temporary_directory directory;
    write_layers(directory / "in", 3);
    const auto from = source::open(directory / "in");
    const std::string state = directory / ("out/" + std::string{sf::writer_state_file});
    begin(*from, directory / "out");
    const auto shards = files_in(directory / "out");
    for (const std::string contents : {"", "safefuse"}) {
        write_file(state, contents);
        CHECK(code_of(sf::rewrite(from->plan, directory / "out", resumed)) ==
              sf::errc::destination_not_empty);
        CHECK(shards_in(directory / "out") == shards.size() - 1);
    }
    std::filesystem::remove_all(directory / "out");
    std::filesystem::create_directory(directory / "out");
    write_file(state, "");  // killed between creating and writing it
    REQUIRE(sf::rewrite(from->plan, directory / "out", resumed));
    check_complete(*from, directory / "out");
    std::filesystem::remove_all(directory / "out");
    std::filesystem::create_directory(directory / "out");
    write_file(state, "");
    REQUIRE(sf::rewrite(from->plan, directory / "out", fresh));
}

TEST_CASE(
    "rewrite: a second run into one directory is in_use, in any order; the first one completes") {
    const temporary_directory directory;
    write_layers(directory / "in", 3);
    const auto from = source::open(directory / "in"),
               other = source::open(directory / "in", sf::description_of<up_first>);
    for (const bool resumes : {false, true}) {
        const std::string to = directory / (resumes ? "resumed" : "fresh");
        std::size_t refused = 0, calls = 0;
        auto intrude = [&](const sf::run_progress&) {
            ++calls;
            for (const source* each : {from.get(), other.get()})
                for (const auto& options : {fresh, resumed})
                    refused +=
                        code_of(sf::rewrite(each->plan, to, options)) == sf::errc::in_use ? 1u : 0u;
            return true;
        };
        REQUIRE(sf::rewrite(from->plan, to, resumes ? resumed : fresh, intrude));
        CHECK(calls > 0);
        CHECK(refused == 4 * calls);
        check_complete(*from, to);
    }
}

TEST_CASE(
    "rewrite: of many threads that write to one directory, one succeeds and the others get "
    "in_use") {
    const temporary_directory directory;
    write_layers(directory / "in", 3);
    const auto from = source::open(directory / "in");
    for (int round = 0; round < 20; ++round) {
        const std::string to = directory / ("out" + std::to_string(round));
        std::vector<sf::errc> codes(4, sf::errc::canceled);
        std::vector<std::thread> threads;
        for (sf::errc& code : codes)
            threads.emplace_back([&] {
                do {
                    const auto done = sf::rewrite(from->plan, to, fresh);
                    code = done ? sf::errc::canceled : done.error().code;
                } while (code == sf::errc::in_use);
            });
        for (std::thread& each : threads) each.join();
        CHECK(std::count(codes.begin(), codes.end(), sf::errc::canceled) == 1);
        CHECK(std::count(codes.begin(), codes.end(), sf::errc::destination_not_empty) == 3);
        check_complete(*from, to);
    }
}

#if !defined(_WIN32)
namespace {

/// Runs a rewrite in a child process and kills it after a time or, if `calls` is not 0, at that
/// progress call.
void run_and_kill(const source& from, const std::string& to, const sf::rewrite_options& options,
                  std::chrono::microseconds after, std::size_t calls) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        auto suicide = [&](const sf::run_progress&) {
            if (calls != 0 && --calls == 0) ::raise(SIGKILL);
            return true;
        };
        const auto done = sf::rewrite(from.plan, to, options, suicide);
        ::_exit(done ? 0 : 1);
    }
    if (calls == 0) {
        std::this_thread::sleep_for(after);
        ::kill(child, SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    // killed, or done before that; never failed
    CHECK((WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0)));
}

/// Checks what a killed run left: nothing, a resumable state, or everything. Resumes it and checks
/// the result.
void check_killed(const source& from, const std::string& to, const sf::rewrite_options& options,
                  std::set<std::size_t>& kept_counts) {
    const auto files = files_in(to);
    const bool has_state =
        std::find(files.begin(), files.end(), sf::writer_state_file) != files.end();
    const std::size_t shards = shards_in(to);
    if (const auto early = sf::checkpoint::open(to)) CHECK(sf::verify_rewritten(from.plan, *early));
    if (!has_state && shards > 0) {  // the run had finished
        check_complete(from, to);
        return;
    }
    const auto again = sf::rewrite(from.plan, to, options);
    REQUIRE_MESSAGE(again, again.error().message().c_str());
    CHECK(again->kept_shard_count == shards);  // so at most the unfinished shard is written again
    kept_counts.insert(shards);
    check_complete(from, to);
}

}  // namespace

TEST_CASE(
    "rewrite: killed at 200 random moments it is resumed each time, and loses at most the "
    "current shard") {
    const temporary_directory directory;
    write_layers(directory / "in", 12, 4, 40, 64);
    const auto from = source::open(directory / "in");
    std::mt19937 random{11};
    std::set<std::size_t> kept_counts;
    for (const sf::durability wait : {sf::durability::renamed, sf::durability::synced}) {
        sf::rewrite_options options = resumed;
        options.wait = wait;
        const auto start = std::chrono::steady_clock::now();
        REQUIRE(sf::rewrite(from->plan, directory / "whole", options));
        const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
            std::chrono::steady_clock::now() - start);
        std::filesystem::remove_all(directory / "whole");
        for (int round = 0; round < (wait == sf::durability::renamed ? 195 : 5); ++round) {
            CAPTURE(round);
            const std::string to = directory / "out";
            // sometimes the resuming run is killed, too
            for (std::size_t kills = 1 + random() % 3; kills > 0; --kills) {
                run_and_kill(*from, to, options, whole * static_cast<int>(random() % 1100) / 1000,
                             0);
                if (!std::filesystem::exists(to + '/' + std::string{sf::writer_state_file}) &&
                    shards_in(to) > 0)
                    break;  // the run had finished
            }
            check_killed(*from, to, options, kept_counts);
            std::filesystem::remove_all(to);
        }
    }
    CHECK(kept_counts.size() > 5);  // killed early and late
}

TEST_CASE("rewrite: killed between any two pieces it is resumed") {
    const temporary_directory directory;
    write_layers(directory / "in", 3);
    const auto from = source::open(directory / "in");
    std::size_t calls = 0;
    auto count = [&](const sf::run_progress&) { return ++calls > 0; };
    REQUIRE(sf::rewrite(from->plan, directory / "whole", fresh, count));
    std::set<std::size_t> kept_counts;
    for (std::size_t at = 1; at <= calls; ++at) {
        CAPTURE(at);
        run_and_kill(*from, directory / "out", fresh, {}, at);
        check_killed(*from, directory / "out", resumed, kept_counts);
        std::filesystem::remove_all(directory / "out");
    }
    CHECK(kept_counts.size() > 3);
}
#endif
