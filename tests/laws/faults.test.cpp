// Faults outside of a file's bytes: files that change while they are open, that may not be read,
// that are no files; disks, descriptors and memory that run out. Each ends in a failure that names
// the file, leaves nothing half-made and no descriptor open. Faults of a single header's code are
// tested beside that header; this tests whole checkpoints.
#include <safefuse/write/rewrite.hpp>
#include <safefuse/write/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/model_config.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/write/repack.hpp>

#include "../support/support.hpp"

#if !defined(_WIN32)
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/mount.h>
#endif

// Sanitizers keep their own memory in the address space, so a limit on it means nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SAFEFUSE_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define SAFEFUSE_TEST_SANITIZED 1
#endif
#endif

namespace sf = safefuse;
using support::temporary_directory;
using support::write_file;

namespace {

constexpr sf::rewrite_options quick{.wait = sf::durability::renamed};
constexpr sf::rewrite_options in_shards_of(std::uint64_t most) {
    return {.max_shard_bytes = most, .wait = sf::durability::renamed};
}
using qwen = sf::families::qwen2_moe;

// Layouts with strided copies: their outputs are assembled in the buffer.
template <class GateUp, class Down>
using into = sf::layout<sf::parameter_suffixes, sf::tensor<"gate_up_proj", GateUp>,
                        sf::tensor<"down_proj", Down>>;
struct transposed
    : sf::family<
          "transposed", sf::layouts::per_expert,
          into<sf::stack<sf::transpose<0, 1, sf::concat<0, sf::layouts::gate, sf::layouts::up>>>,
               sf::stack<sf::transpose<0, 1, sf::layouts::down>>>> {};

std::string layer_name(int layer) { return "model.layers." + std::to_string(layer) + ".mlp"; }

/// One layer of experts as the hub stores them, and a tensor beside them.
std::vector<support::tensor> layer_of(int layer, std::uint64_t experts, std::uint64_t inner,
                                      std::uint64_t hidden) {
    std::vector<support::tensor> out{
        support::bf16(layer_name(layer) + ".gate.weight", {experts, hidden})};
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            out.push_back(support::bf16(
                layer_name(layer) + ".experts." + std::to_string(e) + '.' + part + ".weight",
                std::string_view{part} == "down_proj" ? std::vector{hidden, inner}
                                                      : std::vector{inner, hidden}));
    return out;
}

std::string series(int number, int count) {
    return std::string{sf::shard_name("model", static_cast<std::uint64_t>(number),
                                      static_cast<std::uint64_t>(count))
                           .view()};
}

/// A checkpoint with one layer per shard.
void write_layers(const std::string& directory, int layers, std::uint64_t experts = 4,
                  std::uint64_t inner = 32, std::uint64_t hidden = 48) {
    std::filesystem::create_directories(directory);
    std::vector<support::shard> shards;
    for (int layer = 0; layer < layers; ++layer)
        shards.push_back({series(layer + 1, layers), layer_of(layer, experts, inner, hidden)});
    support::write_checkpoint(directory, shards);
}

std::vector<std::string> files_in(const std::filesystem::path& directory) {
    std::set<std::string> names;
    if (std::filesystem::exists(directory))
        for (const auto& entry : std::filesystem::directory_iterator{directory})
            names.insert(entry.path().filename().string());
    return {names.begin(), names.end()};
}

/// "ok", or the error and its file.
template <class T>
std::string outcome(const sf::result<T>& came) {
    if (came) return "ok";
    const sf::failure& why = came.error();
    return std::string{sf::sentence(why.code)} + ": " + std::string{why.file.view()};
}

#if !defined(_WIN32)
std::string outcome_of(sf::errc code, const std::string& file) {
    return std::string{sf::sentence(code)} + ": " + file;
}

/// Checks that a directory has no hidden or truncated file and does not load as a checkpoint.
std::string half_built(const std::string& directory) {
    const auto files = files_in(directory);
    for (const std::string& name : files) {
        if (name == sf::writer_state_file && files.size() > 1) continue;  // the state file
        if (name.starts_with('.')) return "left behind: " + name;
        if (!sf::tensor_file::open(directory + '/' + name)) return "half-built: " + name;
    }
    if (sf::checkpoint::open(directory)) return "it opens as a checkpoint";
    return {};
}

/// Runs a function in a child process, which may lower limits and give up rights. Returns its
/// answer; "" if all is well. Descriptors that it leaves open and signals that end it are part of
/// the answer.
std::string in_child(const std::function<std::string()>& function) {
    std::fflush(nullptr);
    int ends[2];
    if (::pipe(ends) != 0) return "no pipe";
    const pid_t child = ::fork();
    if (child < 0) return "no child";
    if (child == 0) {
        ::close(ends[0]);
        ::alarm(120);
        const std::size_t before = support::open_descriptors();
        std::string answer = function();
        const std::size_t after = support::open_descriptors();
        if (before != 0 && after != 0 && after != before)
            answer += " [descriptors: " + std::to_string(before) + " before, " +
                      std::to_string(after) + " after]";
        for (std::size_t done = 0; done < answer.size();) {
            const ssize_t written = ::write(ends[1], answer.data() + done, answer.size() - done);
            if (written <= 0) break;
            done += static_cast<std::size_t>(written);
        }
        ::_exit(0);
    }
    ::close(ends[1]);
    std::string answer;
    char part[4096];
    for (ssize_t got = 0; (got = ::read(ends[0], part, sizeof part)) > 0;)
        answer.append(part, static_cast<std::size_t>(got));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        answer += " [ended by signal " + std::to_string(WTERMSIG(status)) + "]";
    else if (WEXITSTATUS(status) != 0)
        answer += " [ended with " + std::to_string(WEXITSTATUS(status)) + "]";
    return answer;
}

/// An answer with this prefix is printed, not judged.
constexpr std::string_view skipped = "skipped: ";
bool is_skipped(const std::string& answer) {
    if (!answer.starts_with(skipped)) return false;
    std::printf("  %s\n", answer.c_str());
    return true;
}

/// Adds a difference to an answer.
void expect(std::string& answer, const std::string& what, const std::string& found,
            const std::string& expected) {
    if (found != expected) answer += what + ": " + found + ", not " + expected + "\n";
}
#endif

}  // namespace

#if !defined(_WIN32)  // Windows does not allow truncating a mapped file

// Files that change while they are open

TEST_CASE_TEMPLATE(
    "changed file: large copies from a mapping check the file first, so a truncated file is a "
    "failure, not a signal",
    Family, qwen, transposed) {
    for (const std::uint64_t keep : {std::uint64_t{0}, std::uint64_t{100}, std::uint64_t{9000}}) {
        CAPTURE(keep);
        const temporary_directory directory;
        const std::string answer_of_child = in_child([&] {
            write_layers(directory / "in", 1, 8, 64, 96);
            write_layers(directory / "other", 1, 8, 64, 96);
            const std::string path = directory / "in/" + series(1, 1),
                              expected = outcome_of(sf::errc::file_changed, path);
            const auto set = sf::checkpoint::open(directory / "in"),
                       other = sf::checkpoint::open(directory / "other");
            const auto scopes = sf::experts_scopes::find(*set, sf::description_of<Family>);
            const auto plan =
                sf::plan(*set, (*scopes)[0], sf::description_of<Family>, sf::direction::forward);
            const auto whole = sf::rewrite_plan::make(*set, sf::description_of<Family>);
            const auto whole_other = sf::rewrite_plan::make(*other, sf::description_of<Family>);
            if (!plan || !whole || !whole_other) return std::string{"no plan"};
            if (!sf::rewrite(*whole, directory / "before", quick))
                return std::string{"it fails without a fault"};
            const auto before = sf::checkpoint::open(directory / "before");
            std::filesystem::resize_file(path, keep);

            std::string answer;
            expect(answer, "scopes",
                   outcome(sf::experts_scopes::find(*set, sf::description_of<Family>)), expected);
            expect(answer, "plan", outcome(sf::plan<Family>(*set, "model.layers.0.mlp.experts")),
                   expected);
            expect(answer, "plan of a scope",
                   outcome(sf::plan(*set, (*scopes)[0], sf::description_of<Family>,
                                    sf::direction::forward)),
                   expected);
            expect(answer, "rewrite plan",
                   outcome(sf::rewrite_plan::make(*set, sf::description_of<Family>)), expected);
            expect(answer, "check", outcome(set->check(0)), expected);
            expect(answer, "check by reference", outcome(sf::tensor_set_ref{*set}.check(0)),
                   expected);
            std::vector<std::vector<std::byte>> made;
            std::vector<std::span<std::byte>> buffers;
            for (const sf::plan_output& each : plan->outputs())
                made.emplace_back(static_cast<std::size_t>(each.size_bytes));
            for (std::vector<std::byte>& each : made) buffers.emplace_back(each);
            expect(answer, "fuse all", outcome(sf::fuse(*plan, buffers)), expected);
            expect(answer, "fuse one",
                   outcome(sf::fuse(*plan, "gate_up_proj",
                                    made[0].size() > made[1].size() ? made[0] : made[1])),
                   expected);
            expect(answer, "gather",
                   outcome(sf::fuse_range(*plan, 0, 8, std::span{made[0]}.first(64))), expected);
            expect(answer, "rewrite", outcome(sf::rewrite(*whole, directory / "out", quick)),
                   expected);
            expect(answer, "verify, the original changed",
                   outcome(sf::verify_rewritten(*whole, *before)), expected);
            if (!files_in(directory / "out").empty()) answer += "the rewrite left files";

            // the counterpart in a comparison
            const std::string copy = directory / "before/model.safetensors";
            std::filesystem::resize_file(copy, keep);
            expect(answer, "verify, the copy changed",
                   outcome(sf::verify_rewritten(*whole_other, *before)),
                   outcome_of(sf::errc::file_changed, copy));
            return answer;
        });
        CHECK(answer_of_child == "");
    }
}

TEST_CASE(
    "changed file: a rewrite checks again for each scope and each tensor; finished shards stay "
    "complete") {
    const temporary_directory directory;
    const std::string answer_of_child = in_child([&] {
        write_layers(directory / "in", 3);
        const std::string path = directory / "in/" + series(3, 3);
        const auto set = sf::checkpoint::open(directory / "in");
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        if (!plan) return outcome(plan);
        std::size_t calls = 0;
        auto cut = [&](const sf::run_progress&) {
            if (++calls == 1) std::filesystem::resize_file(path, 10);
            return true;
        };
        std::string answer;
        expect(answer, "rewrite",
               outcome(sf::rewrite(*plan, directory / "out", in_shards_of(45'000), cut)),
               outcome_of(sf::errc::file_changed, path));
        if (calls < 2) answer += "nothing was written before";
        if (files_in(directory / "out").empty()) answer += "no shard was done";
        return answer + half_built(directory / "out");
    });
    CHECK(answer_of_child == "");
}

TEST_CASE(
    "changed file: a file truncated between two pieces of one tensor is a failure, not a "
    "signal: the system call sees it") {
    const temporary_directory directory;
    const std::string answer_of_child = in_child([&] {
        std::filesystem::create_directory(directory / "in");
        const std::string path = directory / "in/model.safetensors";
        support::write_tensor_file(
            path, {support::bf16("model.layers.0.mlp.experts.0.gate_proj.weight", {4, 8}),
                   support::bf16("model.layers.0.mlp.experts.0.up_proj.weight", {4, 8}),
                   support::bf16("model.layers.0.mlp.experts.0.down_proj.weight", {8, 4}),
                   support::u8("model.norm", {4 << 20})});
        const auto set = sf::checkpoint::open(directory / "in");
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        if (!plan) return outcome(plan);
        bool is_cut = false;
        auto cut = [&](const sf::run_progress& at) {
            if (!is_cut && at.tensor == "model.norm")
                std::filesystem::resize_file(path, 1 << 20), is_cut = true;
            return true;
        };
        std::string answer;
        expect(answer, "rewrite", outcome(sf::rewrite(*plan, directory / "out", quick, cut)),
               outcome_of(sf::errc::file_changed, path));
        if (!is_cut) answer += "nothing was cut";
        return answer + half_built(directory / "out");
    });
    CHECK(answer_of_child == "");
}

TEST_CASE(
    "changed file: one byte less is noticed, although the mapping shows a zero; so is one byte "
    "more") {
    for (const int change : {-1, 1}) {
        CAPTURE(change);
        const temporary_directory directory;
        write_layers(directory / "in", 1);
        const std::string path = directory / "in/" + series(1, 1);
        const auto set = sf::checkpoint::open(directory / "in");
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        REQUIRE(plan);
        const std::uint64_t size = std::filesystem::file_size(path);
        std::filesystem::resize_file(path, change < 0 ? size - 1 : size + 1);
        const auto done = sf::rewrite(*plan, directory / "out", quick);
        REQUIRE(!done);
        CHECK(done.error().code == sf::errc::file_changed);
        CHECK(done.error().file == path);
        CHECK(done.error().expected == size);
        CHECK(done.error().actual == (change < 0 ? size - 1 : size + 1));
        CHECK(files_in(directory / "out").empty());
    }
}

TEST_CASE_TEMPLATE(
    "changed file: a file that is replaced while it is open keeps its old bytes for the reader",
    Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    const std::size_t descriptors = support::open_descriptors();
    write_layers(directory / "in", 2);
    {
        const auto set = sf::basic_checkpoint<Source>::open(directory / "in");
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        REQUIRE(plan);
        REQUIRE(sf::rewrite(*plan, directory / "before", quick));
        write_file(directory / "new", "<html>");
        std::filesystem::rename(directory / "new", directory / "in/" + series(1, 2));
        std::filesystem::remove(directory / "in/" + series(2, 2));
        CHECK(set->check(0));
        CHECK(set->check(1));
        REQUIRE(sf::rewrite(*plan, directory / "after", quick));
        CHECK(support::read_file(directory / "after/model.safetensors") ==
              support::read_file(directory / "before/model.safetensors"));
        CHECK(sf::basic_checkpoint<Source>::open(directory / "in").error().file ==
              directory / "in/" + series(1, 2));
    }
    CHECK(support::open_descriptors() == descriptors);
}

// What is no file, or may not be read
// ------------------------------------------------------------------------------------------

TEST_CASE(
    "no file: a directory, FIFO, empty file or dangling link in any place is named, and "
    "nothing blocks") {
    struct thing {
        const char* name;
        std::function<void(const std::string&)> put;
        sf::errc tensor_file, json;
    };
    const thing things[] = {
        {"fifo", [](const std::string& path) { REQUIRE(::mkfifo(path.c_str(), 0600) == 0); },
         sf::errc::not_a_file, sf::errc::not_a_file},
        {"directory", [](const std::string& path) { std::filesystem::create_directory(path); },
         sf::errc::not_a_file, sf::errc::not_a_file},
        {"empty", [](const std::string& path) { write_file(path, ""); }, sf::errc::header_too_short,
         sf::errc::bad_json},
        {"dangling",
         [](const std::string& path) { std::filesystem::create_symlink("nowhere", path); },
         sf::errc::file_not_found, sf::errc::file_not_found},
        {"circle",
         [](const std::string& path) {
             std::filesystem::create_symlink(std::filesystem::path{path}.filename(), path);
         },
         sf::errc::io_error, sf::errc::io_error},
        {"device",
         [](const std::string& path) { std::filesystem::create_symlink("/dev/zero", path); },
         sf::errc::not_a_file, sf::errc::not_a_file},
    };
    const std::size_t before = support::open_descriptors();
    for (const thing& each : things) {
        const std::string kind = each.name;
        CAPTURE(kind);
        const temporary_directory directory;
        const auto named = [&](const std::string& opened, const std::string& path, sf::errc code) {
            CAPTURE(path);
            CHECK(outcome(sf::checkpoint::open(opened)) == outcome_of(code, path));
            CHECK(outcome(sf::positional_checkpoint::open(opened)) == outcome_of(code, path));
            const auto report = sf::checkpoint::verify(opened);
            REQUIRE(report);
            CHECK(!report->is_sound());
        };
        const std::string single = directory / "single.safetensors";
        each.put(single);
        CHECK(outcome(sf::tensor_file::open(single)) == outcome_of(each.tensor_file, single));
        CHECK(outcome(sf::positional_tensor_file::open(single)) ==
              outcome_of(each.tensor_file, single));

        // a shard that an index names; without a file, it is missing
        write_layers(directory / "shard", 2);
        std::filesystem::remove(directory / "shard/" + series(2, 2));
        each.put(directory / "shard/" + series(2, 2));
        named(directory / "shard", directory / "shard/" + series(2, 2),
              each.tensor_file == sf::errc::file_not_found ? sf::errc::missing_shard
                                                           : each.tensor_file);

        // the index itself; a directory of that name is not an index
        const std::string index = "/model.safetensors.index.json";
        write_layers(directory / "index", 1);
        std::filesystem::remove(directory / "index" + index);
        each.put(directory / "index" + index);
        if (kind == "directory")
            CHECK(sf::checkpoint::open(directory / "index"));
        else
            named(directory / "index", directory / "index" + index, each.json);

        // model.safetensors, without an index
        std::filesystem::create_directory(directory / "model");
        each.put(directory / "model/model.safetensors");
        if (kind == "directory")
            named(directory / "model", directory / "model", sf::errc::no_checkpoint);
        else
            named(directory / "model", directory / "model/model.safetensors", each.tensor_file);

        each.put(directory / "config.json");
        CHECK(outcome(sf::read_model_config(directory.string())) ==
              outcome_of(each.json, directory / "config.json"));
    }
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("no permission: a file that may not be read or written is permission_denied and named") {
    const temporary_directory directory;
    using std::filesystem::perms;
    std::filesystem::permissions(directory.path(), perms::all);
    write_layers(directory / "in", 2);
    for (const char* each : {"shard", "index", "listed", "entered"})
        write_layers(directory / each, 2);
    std::filesystem::permissions(directory / "shard/" + series(2, 2), perms::none);
    std::filesystem::permissions(directory / "index/model.safetensors.index.json", perms::none);
    write_file(directory / "config.json", "{}");
    std::filesystem::permissions(directory / "config.json", perms::none);
    std::filesystem::create_directory(directory / "closed");
    std::filesystem::permissions(directory / "closed", perms::owner_read | perms::owner_exec |
                                                           perms::others_read | perms::others_exec);
    std::filesystem::permissions(directory / "listed", perms::owner_exec | perms::others_exec);
    std::filesystem::permissions(directory / "entered", perms::owner_read | perms::others_read);

    const std::string answer = in_child([&] {
        if (::geteuid() == 0 &&
            (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0))
            return std::string{skipped} +
                   "the superuser may read every file, and its rights cannot be given up";
        if (::access((directory / "config.json").c_str(), R_OK) == 0)
            return std::string{skipped} + "this user may read every file";
        if (::access((directory / "in").c_str(), R_OK) != 0)
            return std::string{skipped} + "this user may read no temporary file";
        std::string found;
        const auto denied = [&](const std::string& what, const std::string& came,
                                const std::string& file) {
            expect(found, what, came, outcome_of(sf::errc::permission_denied, file));
        };
        denied("shard", outcome(sf::checkpoint::open(directory / "shard")),
               directory / "shard/" + series(2, 2));
        denied("shard, positional", outcome(sf::positional_checkpoint::open(directory / "shard")),
               directory / "shard/" + series(2, 2));
        denied("tensor file", outcome(sf::tensor_file::open(directory / "shard/" + series(2, 2))),
               directory / "shard/" + series(2, 2));
        denied("index", outcome(sf::checkpoint::open(directory / "index")),
               directory / "index/model.safetensors.index.json");
        denied("config", outcome(sf::read_model_config(directory.string())),
               directory / "config.json");
        denied("directory that cannot be listed",
               outcome(sf::checkpoint::open(directory / "listed")), directory / "listed");
        denied("directory that cannot be entered",
               outcome(sf::checkpoint::open(directory / "entered")),
               directory / "entered/model.safetensors.index.json");
        const auto report = sf::checkpoint::verify(directory / "shard");
        if (!report || report->failures().size() != 1 || report->file_count() != 1)
            found += "verify does not tell of one shard\n";

        const auto set = sf::checkpoint::open(directory / "in");
        if (!set) return found + outcome(set);
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        denied("rewrite into a closed directory",
               outcome(sf::rewrite(*plan, directory / "closed", quick)), directory / "closed");
        denied("rewrite into a new directory there",
               outcome(sf::rewrite(*plan, directory / "closed/out", quick)),
               directory / "closed/out");
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
    CHECK(files_in(directory / "closed").empty());
    for (const char* each : {"listed", "entered"})
        std::filesystem::permissions(directory / each, perms::owner_all);
}

// What runs out
// ------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE(
    "descriptors: more shards than the limit is a failure that says how to raise it, and "
    "leaves no file open",
    Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_layers(directory / "in", 40, 1, 2, 3);
    const std::string answer_of_child = in_child([&] {
        struct ::rlimit old{};
        ::getrlimit(RLIMIT_NOFILE, &old);
        const int next = ::dup(0);  // the lowest free number
        ::close(next);
        struct ::rlimit low = old;
        low.rlim_cur = static_cast<::rlim_t>(next) + 20;
        if (::setrlimit(RLIMIT_NOFILE, &low) != 0) return std::string{"no limit"};
        std::string answer;
        const auto opened = sf::basic_checkpoint<Source>::open(directory / "in");
        if (opened) return std::string{"it opens"};
        if (opened.error().code != sf::errc::io_error ||
            !opened.error().file.view().ends_with("-of-00040.safetensors"))
            answer += outcome(opened);
        if (opened.error().message().view().find("ulimit -n") == std::string_view::npos)
            answer += "the message does not help";
        const auto report =
            sf::basic_checkpoint<Source>::verify(directory / "in");  // one file at a time
        if (!report || !report->is_sound() || report->file_count() != 40)
            answer += "verify needs as many";
        ::setrlimit(RLIMIT_NOFILE, &old);
        if (!sf::basic_checkpoint<Source>::open(directory / "in"))
            answer += "it does not open later";
        return answer;
    });
    CHECK(answer_of_child == "");
}

TEST_CASE("disk: a file larger than this process may write is named, and no file remains") {
    const temporary_directory directory;
    write_layers(directory / "in", 2, 4, 64, 96);
    const std::string answer_of_child = in_child([&] {
        const auto set = sf::checkpoint::open(directory / "in");
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        ::signal(SIGXFSZ, SIG_DFL);  // it would end the process
        std::string answer;
        for (const std::uint64_t most : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{200},
                                         std::uint64_t{5000}, plan->total_bytes()}) {
            struct ::rlimit old{};
            ::getrlimit(RLIMIT_FSIZE, &old);
            struct ::rlimit low = old;
            low.rlim_cur = static_cast<::rlim_t>(most);
            if (::setrlimit(RLIMIT_FSIZE, &low) != 0) return std::string{"no limit"};
            const auto done = sf::rewrite(*plan, directory / "out", quick);
            ::setrlimit(RLIMIT_FSIZE, &old);
            expect(answer, "rewrite", outcome(done),
                   outcome_of(sf::errc::io_error, directory / "out/model.safetensors"));
            if (done || done.error().actual != most || done.error().expected <= most)
                answer += "it does not tell how much";
            if (!files_in(directory / "out").empty())
                answer += "it left " + files_in(directory / "out")[0];
        }
        if (!sf::rewrite(*plan, directory / "out", quick)) answer += "it fails later";
        return answer;
    });
    CHECK(answer_of_child == "");
}

#if defined(__linux__)
TEST_CASE("disk: a read-only disk is permission_denied before anything happens") {
    const temporary_directory directory;
    write_layers(directory / "in", 1);
    std::filesystem::create_directory(directory / "disk");
    const std::string answer = in_child([&] {
        if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return std::string{skipped} + "no mount namespace may be made here";
        static_cast<void>(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
        if (::mount("tmpfs", (directory / "disk").c_str(), "tmpfs", MS_RDONLY, "size=8m") != 0)
            return std::string{skipped} + "no tmpfs may be mounted here";
        std::string found;
        {
            const auto set = sf::checkpoint::open(directory / "in");
            const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
            const auto into = sf::rewrite(*plan, directory / "disk", quick),
                       below = sf::rewrite(*plan, directory / "disk/out", quick);
            expect(found, "into it", outcome(into),
                   outcome_of(sf::errc::permission_denied, directory / "disk"));
            expect(found, "below it", outcome(below),
                   outcome_of(sf::errc::permission_denied, directory / "disk/out"));
            if (into || into.error().message().view().find("read-only") == std::string_view::npos)
                found += "the message does not say why\n";
        }
        static_cast<void>(::umount((directory / "disk").c_str()));
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
}

TEST_CASE(
    "disk: if the file system can share blocks, equal ranges of both files use them once; "
    "otherwise they are copied") {
    for (const std::string system : {"xfs", "btrfs", "ext4"}) {
        CAPTURE(system);
        const temporary_directory directory;
        std::filesystem::create_directory(directory / "disk");
        const std::string image = directory / "image", mounted = directory / "disk";
        const std::string answer = in_child([&] {
            if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
                return std::string{skipped} + "no mount namespace may be made here";
            static_cast<void>(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
            write_file(image, "");
            std::filesystem::resize_file(image, 512u << 20);
            const auto quietly = [](const std::string& command) {
                return std::system(("PATH=$PATH:/sbin:/usr/sbin; " + command + " >/dev/null 2>&1")
                                       .c_str()) == 0;
            };
            if (!quietly("mkfs." + system + " -q " + image))
                return std::string{skipped} + "there is no mkfs." + system;
            if (!quietly("mount -o loop " + image + ' ' + mounted))
                return std::string{skipped} + system + " may not be mounted here";
            std::string found;
            {
                write_layers(mounted + "/in", 2, 8, 256, 512);  // 12.6 MB
                const auto set = sf::checkpoint::open(mounted + "/in");
                const auto repack = sf::repack_plan(*set, sf::description_of<qwen>);
                if (!repack || !sf::rewrite(*repack, mounted + "/repacked"))
                    return std::string{"no repack"};
                const auto repacked = sf::checkpoint::open(mounted + "/repacked");
                const auto plan = sf::rewrite_plan::make(*repacked, sf::description_of<qwen>);
                const std::uint64_t before = sf::free_space_bytes(mounted).value_or(0);
                const auto done =
                    sf::rewrite(*plan, mounted + "/fused",
                                {.share = sf::sharing::blocks, .data_alignment = 4096});
                const std::uint64_t after = sf::free_space_bytes(mounted).value_or(0);
                expect(found, "rewrite", outcome(done), "ok");
                const auto fused = sf::checkpoint::open(mounted + "/fused");
                if (!done || !fused) return found + "nothing came of it";
                expect(found, "the same", outcome(sf::verify_rewritten(*plan, *fused)), "ok");
                const bool shares = system != "ext4";
                // all but the routers, which begin and end anywhere
                if (shares != (done->shared_bytes >= 12'500'000))
                    found += "shared: " + std::to_string(done->shared_bytes) + "\n";
                if (shares && before - after > 2'000'000)
                    found += "it took " + std::to_string(before - after) + "\n";
                if (!shares && (done->shared_bytes != 0 || before - after < 12'000'000))
                    found += "copied: " + std::to_string(before - after) + "\n";
                // changing the new file does not change the old one
                {
                    std::fstream file{mounted + "/fused/model.safetensors",
                                      std::ios::in | std::ios::out | std::ios::binary};
                    file.seekp(8192);
                    file << "changed";
                }
                if (!sf::verify_rewritten(*repack, *repacked)) found += "the source changed\n";
            }
            static_cast<void>(quietly("umount " + mounted));
            return found;
        });
        if (!is_skipped(answer)) CHECK(answer == "");
    }
}

TEST_CASE(
    "disk: a full disk is disk_full, before anything is written or with the file that did not "
    "fit; the rest does not load") {
    const temporary_directory directory;
    write_layers(directory / "in", 4, 8, 256, 512);  // 4 x 6.3 MB
    std::filesystem::create_directory(directory / "disk");
    const std::string answer = in_child([&] {
        if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return std::string{skipped} + "no mount namespace may be made here";
        static_cast<void>(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
        if (::mount("tmpfs", (directory / "disk").c_str(), "tmpfs", 0, "size=8m") != 0)
            return std::string{skipped} + "no tmpfs may be mounted here";
        std::string found;
        {
            const auto set = sf::checkpoint::open(directory / "in");
            const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
            if (!plan) return outcome(plan);
            const auto early = sf::rewrite(*plan, directory / "disk/early", quick);
            expect(found, "told before", outcome(early),
                   outcome_of(sf::errc::disk_full, directory / "disk/early"));
            if (early || early.error().expected < plan->total_bytes() ||
                early.error().actual > 8u << 20)
                found += "it does not tell how much\n";
            if (!files_in(directory / "disk/early").empty())
                found += "told before: something is left\n";
            if (const auto room = sf::free_space_bytes(directory / "disk");
                !room || *room == 0 || *room > 8u << 20)
                found += "free space\n";

            sf::rewrite_options unchecked = quick;
            unchecked.check_free_space = false;
            const auto one = sf::rewrite(*plan, directory / "disk/one", unchecked);
            expect(found, "one file", outcome(one),
                   outcome_of(sf::errc::disk_full, directory / "disk/one/model.safetensors"));
            if (!files_in(directory / "disk/one").empty()) found += "one file: something is left\n";

            unchecked.max_shard_bytes = 5'000'000;
            const auto several = sf::rewrite(*plan, directory / "disk/several", unchecked);
            if (several || several.error().code != sf::errc::disk_full)
                found += "several files: " + outcome(several) + "\n";
            if (files_in(directory / "disk/several").empty())
                found += "several files: not even one fits\n";
            found += half_built(directory / "disk/several");
            const auto again = sf::rewrite(*plan, directory / "disk/several", unchecked);
            expect(found, "into what is left", outcome(again),
                   outcome_of(sf::errc::destination_not_empty, directory / "disk/several"));
            // with more room, the run can be resumed
            if (::mount("tmpfs", (directory / "disk").c_str(), "tmpfs", MS_REMOUNT, "size=64m") ==
                0) {
                const std::size_t kept = files_in(directory / "disk/several").size() - 1;
                unchecked.resume = true;
                const auto resumed = sf::rewrite(*plan, directory / "disk/several", unchecked);
                expect(found, "with more room", outcome(resumed), "ok");
                if (resumed && resumed->kept_shard_count != kept) found += "it begins anew\n";
                const auto out = sf::checkpoint::open(directory / "disk/several");
                if (!out || !sf::verify_rewritten(*plan, *out))
                    found += "it is not what it should be\n";
            }
        }
        static_cast<void>(::umount((directory / "disk").c_str()));
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
}

#if !defined(SAFEFUSE_TEST_SANITIZED)
namespace {

/// Whether a limit on the address space holds. qemu's user-mode emulation accepts it and ignores
/// it.
bool limits_hold() {
    const std::string answer = in_child([] {
        struct ::rlimit low{};
        ::getrlimit(RLIMIT_AS, &low);
        low.rlim_cur = std::size_t{512} << 20;
        if (::setrlimit(RLIMIT_AS, &low) != 0) return std::string{"no limit"};
        void* volatile const taken = std::malloc(std::size_t{1} << 30);
        return std::string{taken == nullptr ? "" : "taken"};
    });
    if (!answer.empty()) std::puts("  skipped: no limit for memory holds here");
    return answer.empty();
}

/// Takes all memory but a given number of bytes from this process, for the lifetime of the object.
class memory_shortage {
public:
    explicit memory_shortage(std::size_t left_bytes) {
        ::getrlimit(RLIMIT_AS, &old_);
        volatile char stack[256 * 1024];  // grows now, not when no memory is left
        for (std::size_t i = 0; i < sizeof stack; i += 4096) stack[i] = 0;
        void* const left = left_bytes == 0 ? nullptr : std::malloc(left_bytes);
        std::size_t pages = 0;
        if (std::FILE* const file = std::fopen("/proc/self/statm", "r")) {
            if (std::fscanf(file, "%zu", &pages) != 1) pages = 0;
            std::fclose(file);
        }
        struct ::rlimit low = old_;
        low.rlim_cur = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        if (pages == 0 || ::setrlimit(RLIMIT_AS, &low) != 0) std::abort();
        for (std::size_t size = std::size_t{1} << 20; size >= 16; size /= 2)
            while (block* const taken = static_cast<block*>(std::malloc(size))) {
                taken->next = taken_;
                taken_ = taken;
            }
        std::free(left);
    }
    memory_shortage(const memory_shortage&) = delete;
    memory_shortage& operator=(const memory_shortage&) = delete;
    ~memory_shortage() {
        ::setrlimit(RLIMIT_AS, &old_);
        while (taken_ != nullptr) std::free(std::exchange(taken_, taken_->next));
    }

private:
    struct block {
        block* next;
    };
    struct ::rlimit old_{};
    block* taken_ = nullptr;
};

/// Runs something with more and more memory until it succeeds three times. Every failure before
/// must be out_of_memory.
template <class Run, class Check>
std::string until_it_fits(const char* what, const Run& run, const Check& check) {
    int failed = 0, good = 0;
    for (std::size_t left = 0; good < 3; left += left < 8192     ? 40
                                                 : left < 65'536 ? 1544
                                                                 : left / 16) {
        if (left > (std::size_t{256} << 20))
            return std::string{what} + " does not get by with 256 MB\n";
        sf::errc code{};
        bool came = false;
        {
            const memory_shortage shortage{left};
            auto done = run();
            came = done.has_value();
            if (!came) code = done.error().code;
        }
        if (came)
            ++good;
        else if (code != sf::errc::out_of_memory)
            return std::string{what} + " with " + std::to_string(left) +
                   " bytes: " + std::string{sf::sentence(code)} + "\n";
        else
            ++failed;
        if (const std::string wrong = check(came); !wrong.empty())
            return std::string{what} + " with " + std::to_string(left) + " bytes: " + wrong + "\n";
    }
    return failed == 0 ? std::string{what} + " never ran out of memory\n" : std::string{};
}

}  // namespace

TEST_CASE_TEMPLATE(
    "memory: running out of it anywhere is out_of_memory, without a crash or half-built objects",
    Source, sf::mapped_file, sf::positional_file) {
    if (!limits_hold()) return;
    const temporary_directory directory;
    write_layers(directory / "in", 3, 60, 4, 6);
    std::filesystem::create_directory(directory / "empty");
    const std::string path = directory / "in", shard = directory / "in/" + series(2, 3),
                      to = directory / "out";
    const std::string bytes = support::read_file(shard),
                      index = support::read_file(path + "/model.safetensors.index.json");
    const auto nothing = [](bool) { return std::string{}; };
    const std::string answer_of_child = in_child([&] {
        std::string answer;
        std::filesystem::current_path(directory / "empty");
        answer += until_it_fits(
            "header", [&] { return sf::header::parse(support::bytes_of(bytes), bytes.size()); },
            nothing);
        answer += until_it_fits(
            "index", [&] { return sf::shard_index::parse(support::bytes_of(index)); }, nothing);
        answer += until_it_fits(
            "tensor file", [&] { return sf::basic_tensor_file<Source>::open(shard); }, nothing);
        answer += until_it_fits(
            "checkpoint", [&] { return sf::basic_checkpoint<Source>::open(path); }, nothing);
        answer += until_it_fits(
            "verify", [&] { return sf::basic_checkpoint<Source>::verify(path); }, nothing);
        const auto set = sf::basic_checkpoint<Source>::open(path);
        if (!set) return answer + outcome(set);
        answer += until_it_fits(
            "scopes", [&] { return sf::experts_scopes::find(*set, sf::description_of<qwen>); },
            nothing);
        const auto scopes = sf::experts_scopes::find(*set, sf::description_of<qwen>);
        answer += until_it_fits(
            "plan",
            [&] {
                return sf::plan(*set, (*scopes)[1], sf::description_of<qwen>,
                                sf::direction::forward);
            },
            nothing);
        answer += until_it_fits(
            "rewrite plan", [&] { return sf::rewrite_plan::make(*set, sf::description_of<qwen>); },
            nothing);
        const auto rewrite_all = [&](const char* what, const sf::family_description& family) {
            const auto plan = sf::rewrite_plan::make(*set, family);
            if (!plan) return outcome(plan);
            return until_it_fits(
                what, [&] { return sf::rewrite(*plan, to, in_shards_of(9000)); },
                [&](bool came) {
                    std::string wrong;
                    if (came) {
                        const auto out = sf::checkpoint::open(to);
                        wrong = out ? outcome(sf::verify_rewritten(*plan, *out)) : outcome(out);
                        if (wrong == "ok") wrong.clear();
                    } else {
                        wrong = half_built(to);
                    }
                    if (!files_in(".").empty())
                        wrong += "it wrote to the working directory: " + files_in(".")[0];
                    std::filesystem::remove_all(to);
                    return wrong;
                });
        };
        answer += rewrite_all("rewrite", sf::description_of<qwen>);
        answer += rewrite_all("strided rewrite", sf::description_of<transposed>);
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<transposed>);
        if (!sf::rewrite(*plan, to, quick)) return answer + "it fails without a fault";
        const auto out = sf::basic_checkpoint<Source>::open(to);
        answer +=
            until_it_fits("comparison", [&] { return sf::verify_rewritten(*plan, *out); }, nothing);
        return answer;
    });
    CHECK(answer_of_child == "");
}

TEST_CASE(
    "memory: a mapping that does not fit into the address space is out_of_memory; positional "
    "reads need none") {
    if (!limits_hold()) return;
    const temporary_directory directory;
    constexpr std::uint64_t size = std::uint64_t{4} << 30;
    const std::string
        start = support::framed(
            R"({"t":{"dtype":"U8","shape":[4294967296],"data_offsets":[0,4294967296]}})"),
        path = directory / "model.safetensors";
    write_file(path, start);
    std::error_code none;
    std::filesystem::resize_file(path, start.size() + size, none);
    if (none) {
        std::puts("  skipped: no file of 4 GiB can be made here");
        return;
    }
    const std::string answer_of_child = in_child([&] {
        struct ::rlimit low{};
        ::getrlimit(RLIMIT_AS, &low);
        low.rlim_cur = std::size_t{2} << 30;
        if (::setrlimit(RLIMIT_AS, &low) != 0) return std::string{"no limit"};
        std::string answer;
        expect(answer, "mapped", outcome(sf::tensor_file::open(path)),
               outcome_of(sf::errc::out_of_memory, path));
        expect(answer, "mapped checkpoint", outcome(sf::checkpoint::open(directory.string())),
               outcome_of(sf::errc::out_of_memory, path));
        const auto file = sf::positional_tensor_file::open(path);
        expect(answer, "positional", outcome(file), "ok");
        return answer;
    });
    CHECK(answer_of_child == "");
}
#endif
#endif

#endif  // !_WIN32

// Reads that fail in the middle
// ------------------------------------------------------------------------------------------

namespace {

/// A file with one unreadable byte.
class failing_file {
public:
    static inline std::string path;                       ///< path of the file that fails
    static inline std::uint64_t bad = ~std::uint64_t{0};  ///< offset of the byte

    static sf::result<failing_file> open(std::string_view file) noexcept {
        auto opened = sf::positional_file::open(file);
        if (!opened) return std::move(opened).error();
        failing_file made;
        made.file_ = std::move(*opened);
        return made;
    }
    std::uint64_t size_bytes() const noexcept { return file_.size_bytes(); }
    std::span<const std::byte> bytes() const noexcept { return {}; }
    sf::result<void> read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
        if (file_.path() == path && offset <= bad && bad - offset < out.size())
            return sf::failure{.code = sf::errc::io_error, .offset = bad, .os_error = 5};
        return file_.read(offset, out);
    }
    void advise(std::uint64_t, std::uint64_t, sf::advice) const noexcept {}

private:
    sf::positional_file file_;
};
static_assert(sf::file_source<failing_file>);

}  // namespace

TEST_CASE_TEMPLATE(
    "broken disk: one unreadable byte, at any place, fails every operation that needs it", Family,
    qwen, transposed) {
    const temporary_directory directory;
    write_layers(directory / "in", 2, 2, 6, 10);
    const std::size_t descriptors = support::open_descriptors();
    failing_file::bad = ~std::uint64_t{0};
    failing_file::path = directory / "in/" + series(2, 2);
    const std::uint64_t size = std::filesystem::file_size(failing_file::path);
    const std::uint64_t header_bytes = [] {
        const auto file = sf::tensor_file::open(failing_file::path);
        REQUIRE(file);
        return file->header().header_bytes();
    }();
    {
        const auto set = sf::basic_checkpoint<failing_file>::open(directory / "in");
        REQUIRE(set);
        REQUIRE(sf::tensor_set_ref{*set}.check(1));  // a source that cannot tell
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<Family>);
        const auto scopes = sf::experts_scopes::find(*set, sf::description_of<Family>);
        REQUIRE(plan);
        REQUIRE(sf::rewrite(*plan, directory / "whole", quick));
        const auto whole = sf::checkpoint::open(directory / "whole");
        const auto check_named = [&](const sf::failure& why, std::uint64_t bad) {
            CHECK(why.code == sf::errc::io_error);
            CHECK(why.file == failing_file::path);
            CHECK(why.offset == bad);
            CHECK(why.os_error == 5);
        };
        for (std::uint64_t bad = 0; bad < size; bad += bad < header_bytes ? 61 : 19) {
            CAPTURE(bad);
            failing_file::bad = bad;
            const auto opened = sf::basic_checkpoint<failing_file>::open(directory / "in");
            CHECK(opened.has_value() == (bad >= header_bytes));
            if (!opened) check_named(opened.error(), bad);
            if (bad < header_bytes) continue;

            for (const std::uint64_t most : {std::uint64_t{2000}, sf::default_shard_bytes}) {
                const temporary_directory to;
                const auto done = sf::rewrite(*plan, to / "out", in_shards_of(most));
                REQUIRE(!done);
                check_named(done.error(), bad);
                for (const std::string& name : files_in(to / "out")) {
                    if (name == sf::writer_state_file) continue;
                    CHECK(!name.starts_with('.'));
                    CHECK(sf::tensor_file::open(to / "out/" + name));
                }
                CHECK(!sf::checkpoint::open(to / "out"));
            }
            const auto compared = sf::verify_rewritten(*plan, *whole);
            REQUIRE(!compared);
            check_named(compared.error(), bad);

            // the scope's own plan: outputs that do not need the byte are made
            const auto scope_plan =
                sf::plan(*set, (*scopes)[1], sf::description_of<Family>, sf::direction::forward);
            REQUIRE(scope_plan);
            std::size_t failed = 0;
            for (std::size_t o = 0; o < scope_plan->outputs().size(); ++o) {
                const sf::plan_output& output = scope_plan->outputs()[o];
                std::vector<std::byte> out(static_cast<std::size_t>(output.size_bytes));
                const auto fused = sf::fuse(*scope_plan, output.local_name, out);
                const auto gathered = sf::fuse_range(*scope_plan, o, 0, out);
                CHECK(fused.has_value() == gathered.has_value());
                if (fused) continue;
                ++failed;
                check_named(fused.error(), bad);
                check_named(gathered.error(), bad);
            }
            CHECK(failed <= 1 + (scope_plan->blocks().empty() ? 0 : 1));
        }
        // the other side of a comparison
        failing_file::path = directory / "whole/model.safetensors";
        failing_file::bad = std::filesystem::file_size(failing_file::path) - 1;
        {
            const auto mapped = sf::checkpoint::open(directory / "in");
            const auto mapped_plan = sf::rewrite_plan::make(*mapped, sf::description_of<Family>);
            const auto other = sf::basic_checkpoint<failing_file>::open(directory / "whole");
            REQUIRE(other);
            const auto compared = sf::verify_rewritten(*mapped_plan, *other);
            REQUIRE(!compared);
            check_named(compared.error(), failing_file::bad);
        }
    }
    failing_file::path.clear();
    CHECK(support::open_descriptors() == descriptors);
}
