// Replacing a checkpoint: the old one stays until the new one is complete, however the run ends,
// and no file of the source is lost, whatever links and mounts lead to it. Most cases run the
// program itself.
#include "../../../examples/programs/convert_checkpoint.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../support/support.hpp"

#include <fcntl.h>
#if defined(_WIN32)
#include <io.h>
#else
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#endif

namespace sf = safefuse;
namespace fs = std::filesystem;
using support::read_file;
using support::temporary_directory;
using support::write_file;

// The thread and memory sanitizers define these calls themselves.
#if defined(__SANITIZE_THREAD__)
#define SAFEFUSE_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SAFEFUSE_TEST_SANITIZED 1
#endif
#endif

// The calls that change a directory, so that a test can end the process at each of them or let it
// fail.
#if defined(__linux__) && defined(__GLIBC__) && defined(__LP64__) && \
    !defined(SAFEFUSE_TEST_SANITIZED)
#define SAFEFUSE_TEST_CALLS 1
namespace {

struct watched_calls {
    bool watches = false;
    std::size_t count = 0;
    std::size_t kill_at = 0;   // before this call; 0: never
    std::size_t fail_at = 0;   // with EIO
    bool fails_close = false;  // for files that are not in place yet
    std::vector<std::string>* synced = nullptr;
};
watched_calls calls;  // the calls so far
watched_calls armed;  // takes effect when the program starts

std::string path_of_descriptor(int file) {
    char path[4096];
    const ssize_t size =
        ::readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), path, sizeof path);
    return size < 0 ? std::string{} : std::string{path, static_cast<std::size_t>(size)};
}

/// Counts a call. Returns false if it must fail.
bool may_call() noexcept {
    if (!calls.watches) return true;
    ++calls.count;
    if (calls.count == calls.kill_at) ::raise(SIGKILL);
    if (calls.count != calls.fail_at) return true;
    errno = EIO;
    return false;
}
int done(long came) noexcept { return static_cast<int>(came); }

}  // namespace

extern "C" {
int rename(const char* from, const char* to) noexcept {
    return may_call() ? done(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0u)) : -1;
}
int unlink(const char* path) noexcept {
    return may_call() ? done(::syscall(SYS_unlinkat, AT_FDCWD, path, 0)) : -1;
}
int rmdir(const char* path) noexcept {
    return may_call() ? done(::syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)) : -1;
}
int mkdir(const char* path, mode_t mode) noexcept {
    return may_call() ? done(::syscall(SYS_mkdirat, AT_FDCWD, path, mode)) : -1;
}
int chmod(const char* path, mode_t mode) noexcept {
    return may_call() ? done(::syscall(SYS_fchmodat, AT_FDCWD, path, mode)) : -1;
}
int ftruncate(int file, off_t size) noexcept {
    return may_call() ? done(::syscall(SYS_ftruncate, file, size)) : -1;
}
ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
    return may_call() ? ::syscall(SYS_pwrite64, file, bytes, size, offset) : -1;
}
int fsync(int file) {
    if (calls.watches && calls.synced != nullptr) calls.synced->push_back(path_of_descriptor(file));
    return may_call() ? done(::syscall(SYS_fsync, file)) : -1;
}
int close(int file) {
    const bool fails =
        calls.watches && calls.fails_close && path_of_descriptor(file).ends_with(".tmp");
    const int came = done(::syscall(SYS_close, file));
    if (!fails) return came;
    errno = EIO;
    return -1;
}
}
#else
namespace {
struct watched_calls {
    std::size_t count = 0;
} calls, armed;
}  // namespace
#endif

namespace {

using qwen = sf::families::qwen2_moe;

/// A checkpoint with one layer per shard, and config.json. Another seed gives other bytes.
void write_source(const std::string& directory, const std::string& seed, int layers = 3) {
    fs::create_directories(directory);
    std::vector<support::shard> shards;
    for (int layer = 0; layer < layers; ++layer) {
        const std::string name = "model.layers." + std::to_string(layer) + ".mlp";
        std::vector<support::tensor> tensors{support::bf16(name + ".gate.weight", {4, 24})};
        for (int e = 0; e < 4; ++e)
            for (const std::string part : {"gate_proj", "up_proj", "down_proj"})
                tensors.push_back(
                    support::bf16(name + ".experts." + std::to_string(e) + '.' + part + ".weight",
                                  part == "down_proj" ? std::vector<std::uint64_t>{24, 16}
                                                      : std::vector<std::uint64_t>{16, 24}));
        for (support::tensor& each : tensors)
            each.data = support::pattern(seed + each.name, each.data.size());
        shards.push_back({std::string{sf::shard_name("model", static_cast<std::uint64_t>(layer) + 1,
                                                     static_cast<std::uint64_t>(layers))
                                          .view()},
                          tensors});
    }
    support::write_checkpoint(directory, shards);
    write_file(directory + "/config.json",
               "{\"model_type\": \"qwen2_moe\", \"num_experts\": 4, \"seed\": \"" + seed + "\"}");
}

/// How many calls the last watched run made.
std::size_t last_count = 0;

/// Runs fuse_checkpoint and returns its exit status.
int fuse(const std::string& in, const std::string& out, std::vector<std::string> options = {}) {
    std::vector<std::string> words{"fuse_checkpoint",  in,   out, "--quiet",
                                   "--max-shard-size", "8KB"};
    words.insert(words.end(), options.begin(), options.end());
    if (std::find(options.begin(), options.end(), "--sync") == options.end())
        words.push_back("--no-sync");
    else
        words.erase(std::find(words.begin(), words.end(), "--sync"));
    std::vector<char*> pointers;
    for (std::string& each : words) pointers.push_back(each.data());
    calls = std::exchange(armed, {});
    const int status = convert_checkpoint::run(static_cast<int>(pointers.size()), pointers.data(),
                                               "", convert_checkpoint::direction::fuse);
    last_count = std::exchange(calls, {}).count;
    return status;
}

/// Exit status and stderr of a run.
struct said {
    int status = 0;
    std::string words;
    [[nodiscard]] bool has(std::string_view text) const {
        return words.find(text) != std::string::npos;
    }
};
said fuse_and_listen(const std::string& in, const std::string& out,
                     std::vector<std::string> options = {}) {
    said all;
    const temporary_directory directory;
    const std::string path = directory / "stderr";
    std::fflush(stderr);
    const int before = ::dup(2), file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(file, 2);
    ::close(file);
    all.status = fuse(in, out, std::move(options));
    std::fflush(stderr);
    ::dup2(before, 2);
    ::close(before);
    all.words = read_file(path);
    return all;
}

/// Every file of a directory by name, with its bytes. For a symbolic link, the path that it
/// contains.
using files = std::map<std::string, std::string>;
files files_in(const std::string& directory) {
    files found;
    if (!fs::exists(directory)) return found;
    for (const auto& entry : fs::recursive_directory_iterator{directory}) {
        const std::string name = entry.path().lexically_relative(directory).generic_string();
        if (entry.is_symlink())
            found[name] = "-> " + fs::read_symlink(entry.path()).string();
        else if (entry.is_regular_file())
            found[name] = read_file(entry.path());
    }
    return found;
}
/// All files except those that show that a run is or was there.
files visible(files all) {
    std::erase_if(all, [](const auto& each) { return each.first.starts_with(".safefuse-"); });
    return all;
}
[[maybe_unused]] std::string names_of(const files& all) {
    std::string names;
    for (const auto& [name, contents] : all) names += name + ' ';
    return names;
}
/// Whether a run has left nothing beside its destination.
bool is_tidy(const std::string& out) {
    const fs::path path{out};
    for (const auto& [name, contents] : files_in(out))
        if (name.starts_with(".safefuse") || name.ends_with(".tmp")) return false;
    return !fs::exists(path.parent_path() / ('.' + path.filename().string() + ".safefuse-new")) &&
           !fs::exists(path / ".safefuse-new");
}

/// Two checkpoints, and both fused.
struct two {
    temporary_directory directory;
    files old_files, new_files;

    explicit two(int old_layers = 3) {
        write_source(in_old(), "old", old_layers);
        write_source(in(), "new");
        REQUIRE(fuse(in_old(), directory / "out.old") == 0);
        REQUIRE(fuse(in(), directory / "out.new") == 0);
        old_files = files_in(directory / "out.old");
        new_files = files_in(directory / "out.new");
        REQUIRE(old_files.size() > 3);
        REQUIRE(old_files != new_files);
        reset();
    }
    std::string in_old() const { return directory / "old"; }
    std::string in() const { return directory / "in"; }
    std::string out() const { return directory / "out"; }
    /// Puts the old checkpoint back to `at`.
    void reset(const std::string& at) const {
        fs::remove_all(at);
        fs::copy(directory / "out.old", at, fs::copy_options::recursive);
    }
    void reset() const {
        reset(out());
        fs::remove_all(directory / ".out.safefuse-new");
    }
};

#if !defined(_WIN32)
/// Runs a function in a child process. Returns its answer; "" if all is well.
std::string in_child(const std::function<std::string()>& function) {
    std::fflush(nullptr);
    int ends[2];
    if (::pipe(ends) != 0) return "no pipe";
    const pid_t child = ::fork();
    if (child < 0) return "no child";
    if (child == 0) {
        ::close(ends[0]);
        ::alarm(120);
        const std::string answer = function();
        if (::write(ends[1], answer.data(), answer.size()) < 0) ::_exit(2);
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
    return answer;
}

constexpr std::string_view skipped = "skipped: ";
bool is_skipped(const std::string& answer) {
    if (!answer.starts_with(skipped)) return false;
    std::printf("  %s\n", answer.c_str());
    return true;
}

std::uint64_t inode_of(const std::string& path) {
    struct stat facts;
    return ::stat(path.c_str(), &facts) == 0 ? static_cast<std::uint64_t>(facts.st_ino) : 0;
}
unsigned mode_of(const std::string& path) {
    struct stat facts;
    return ::lstat(path.c_str(), &facts) == 0 ? static_cast<unsigned>(facts.st_mode) & 0777u : 0;
}
#endif

}  // namespace

// What stays, and until when

TEST_CASE(
    "replace: the old checkpoint stays, byte for byte, until the new one is complete beside it") {
    for (const bool has_notes : {false, true}) {
        CAPTURE(has_notes);
        const two both;
        if (has_notes) {
            write_file(both.out() + "/notes.txt", "mine");
            fs::create_directory(both.out() + "/runs");
            write_file(both.out() + "/runs/log", "mine, too");
        }
        const files before = files_in(both.out());
        const auto set = sf::checkpoint::open(both.in());
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        REQUIRE(plan);
        {
            auto destination =
                sf::checkpoint_destination::open(both.out(), *set, {.what = sf::existing::replace});
            REQUIRE(destination);
            CHECK(destination->is_staged());
            CHECK(!destination->resumes());
            const std::string to{destination->directory()};
            std::size_t count = 0;
            auto watch = [&](const sf::run_progress&) {
                CHECK(visible(files_in(both.out())) == before);
                return ++count > 0;
            };
            REQUIRE(sf::rewrite(*plan, to, {.max_shard_bytes = 8000, .keep_state = true}, watch));
            write_file(to + "/config.json", both.new_files.at("config.json"));
            CHECK(count > 5);
            CHECK(visible(files_in(both.out())) == before);
            REQUIRE(destination->commit());
            CHECK(!destination->is_staged());
            CHECK(destination->commit());  // a second call does nothing
        }
        files expected = both.new_files;
        if (has_notes) expected["notes.txt"] = "mine", expected["runs/log"] = "mine, too";
        CHECK(files_in(both.out()) == expected);
        CHECK(is_tidy(both.out()));
    }
}

TEST_CASE(
    "replace: other shard counts, and files of the old checkpoint that the new one does not have") {
    for (const int layers : {1, 2, 5}) {
        CAPTURE(layers);
        const two both{layers};
        write_file(both.out() + "/.model.safetensors.0123456789abcdef.tmp", "half");
        REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
        CHECK(files_in(both.out()) == both.new_files);
        CHECK(is_tidy(both.out()));
    }
}

TEST_CASE("replace: if there is nothing to replace, the directory itself is written to") {
    const two both;
    fs::remove_all(both.out());
    REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
    CHECK(files_in(both.out()) == both.new_files);
    fs::remove_all(both.out());
    fs::create_directory(both.out());
    write_file(both.out() + "/notes.txt", "mine");
    REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
    files expected = both.new_files;
    expected["notes.txt"] = "mine";
    CHECK(files_in(both.out()) == expected);
}

TEST_CASE("replace: an unfinished checkpoint of another rewrite is replaced, too") {
    const two both;
    const auto set = sf::checkpoint::open(both.in_old());
    const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
    fs::remove_all(both.out());
    std::size_t left = 8;
    auto stop = [&](const sf::run_progress&) { return left-- > 1; };
    REQUIRE(!sf::rewrite(*plan, both.out(),
                         {.max_shard_bytes = 8000, .wait = sf::durability::renamed}, stop));
    REQUIRE(files_in(both.out()).contains(std::string{sf::writer_state_file}));
    const files before = files_in(both.out());
    CHECK(fuse_and_listen(both.in(), both.out()).status == 1);
    CHECK(fuse_and_listen(both.in(), both.out(), {"--resume"})
              .has("has an unfinished rewrite of something else"));
    CHECK(files_in(both.out()) == before);
    REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
    CHECK(files_in(both.out()) == both.new_files);
    CHECK(is_tidy(both.out()));
}

TEST_CASE("replace: half-written files of killed runs do not become part of the new checkpoint") {
    for (const bool has_notes : {false, true}) {
        const two both;
        if (has_notes) write_file(both.out() + "/notes.txt", "mine");
        const auto set = sf::checkpoint::open(both.in());
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        auto destination =
            sf::checkpoint_destination::open(both.out(), *set, {.what = sf::existing::replace});
        REQUIRE(destination);
        const std::string to{destination->directory()};
        REQUIRE(sf::rewrite(*plan, to, {.max_shard_bytes = 8000, .keep_state = true}));
        write_file(to + "/config.json", both.new_files.at("config.json"));
        write_file(to + "/.config.json.0123456789abcdef.tmp", "half");
        write_file(to + "/.model.safetensors.index.json.0123456789abcdef.tmp", "half");
        REQUIRE(destination->commit());
        CHECK(is_tidy(both.out()));
        CHECK(files_in(both.out()).size() == both.new_files.size() + (has_notes ? 1u : 0u));
    }
}

TEST_CASE(
    "replace: a run that ends early leaves the old checkpoint, and its own shards to resume "
    "from") {
    const two both;
    const auto set = sf::checkpoint::open(both.in());
    const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
    const sf::rewrite_options options{
        .max_shard_bytes = 8000, .wait = sf::durability::renamed, .keep_state = true};
    for (const std::size_t stop_at : {std::size_t{1}, std::size_t{6}}) {
        CAPTURE(stop_at);
        std::string to;
        {
            auto destination =
                sf::checkpoint_destination::open(both.out(), *set, {.what = sf::existing::replace});
            REQUIRE(destination);
            to = destination->directory();
            std::size_t left = stop_at;
            auto stop = [&](const sf::run_progress&) { return left-- > 1; };
            REQUIRE(!sf::rewrite(*plan, to, options, stop));
        }
        // on Windows the new one is written in a directory in OUT
        CHECK((sf::detail::os::can_exchange ? files_in(both.out())
                                            : visible(files_in(both.out()))) == both.old_files);
        CHECK(fs::exists(to) == (stop_at > 1));
    }
    auto destination = sf::checkpoint_destination::open(both.out(), *set, {.resume = true});
    REQUIRE(destination);
    CHECK(destination->is_staged());
    CHECK(destination->resumes());
    sf::rewrite_options again = options;
    again.resume = destination->resumes();
    const auto written = sf::rewrite(*plan, destination->directory(), again);
    REQUIRE(written);
    CHECK(written->kept_shard_count > 0);
    write_file(std::string{destination->directory()} + "/config.json",
               both.new_files.at("config.json"));
    REQUIRE(destination->commit());
    CHECK(files_in(both.out()) == both.new_files);
}

// Links
// ------------------------------------------------------------------------------------------

#if !defined(_WIN32)
TEST_CASE(
    "replace: a source of symbolic links to the destination's files is refused, and nothing is "
    "lost") {
    const two both;
    // IN has the names of the unfused checkpoint; its files are OUT's
    fs::remove_all(both.out());
    fs::rename(both.in(), both.out());
    const files before = files_in(both.out());
    fs::create_directory(both.in());
    for (const auto& [name, contents] : before)
        fs::create_symlink("../out/" + name, both.in() + '/' + name);
    for (const std::string option : {"--overwrite", "--any-expert-count"}) {
        const said all = fuse_and_listen(both.in(), both.out(), {option});
        CHECK(all.status == 1);
        if (option == "--overwrite") CHECK(all.has("overlap"));
        CHECK(files_in(both.out()) == before);
        CHECK(is_tidy(both.out()));
    }
    // one such shard is enough
    fs::create_directory(both.directory / "mixed");
    for (const auto& [name, contents] : before) {
        if (name == "model-00002-of-00003.safetensors")
            fs::create_symlink(both.out() + '/' + name, both.directory / ("mixed/" + name));
        else
            write_file(both.directory / ("mixed/" + name), contents);
    }
    CHECK(fuse_and_listen(both.directory / "mixed", both.out(), {"--overwrite"}).status == 1);
    CHECK(files_in(both.out()) == before);
}

TEST_CASE(
    "replace: config.json that is a link to the destination's keeps its bytes, with and without "
    "--overwrite") {
    for (const bool overwrites : {false, true}) {
        CAPTURE(overwrites);
        const two both;
        const std::string config = read_file(both.in() + "/config.json");
        if (!overwrites) fs::remove_all(both.out()), fs::create_directory(both.out());
        write_file(both.out() + "/config.json", config);
        fs::remove(both.in() + "/config.json");
        fs::create_symlink("../out/config.json", both.in() + "/config.json");
        const said all = overwrites ? fuse_and_listen(both.in(), both.out(), {"--overwrite"})
                                    : fuse_and_listen(both.in(), both.out());
        static_cast<void>(all);
        CHECK(read_file(both.in() + "/config.json") == config);
        if (overwrites) {
            CHECK(all.status == 0);
            CHECK(files_in(both.out()) == both.new_files);
        }
    }
}

TEST_CASE("replace: links in the destination are replaced, and their targets stay") {
    const two both;
    const std::string shard = both.old_files.begin()->first == "config.json"
                                  ? std::next(both.old_files.begin())->first
                                  : both.old_files.begin()->first;
    for (const std::string& name : {shard, std::string{"config.json"}}) {
        fs::rename(both.out() + '/' + name, both.directory / ("kept." + name));
        fs::create_symlink(both.directory / ("kept." + name), both.out() + '/' + name);
    }
    REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
    CHECK(files_in(both.out()) == both.new_files);
    CHECK(read_file(both.directory / ("kept." + shard)) == both.old_files.at(shard));
    CHECK(read_file(both.directory / "kept.config.json") == both.old_files.at("config.json"));
}

TEST_CASE(
    "replace: a destination whose shards are hard links of the source is replaced, and the source "
    "stays") {
    const two both;
    // a fused checkpoint is linked
    REQUIRE(fuse(both.directory / "out.new", both.directory / "linked", {"--link"}) == 0);
    const std::string shard = "model-00001-of-00006.safetensors";
    REQUIRE(both.new_files.contains(shard));
    REQUIRE(inode_of(both.directory / ("linked/" + shard)) ==
            inode_of(both.directory / ("out.new/" + shard)));
    for (const std::string option : {"--link", "--any-expert-count"}) {
        REQUIRE(fuse(both.directory / "out.new", both.directory / "linked",
                     {"--overwrite", option}) == 0);
        CHECK(files_in(both.directory / "out.new") == both.new_files);
        CHECK(visible(files_in(both.directory / "linked")) == both.new_files);
        CHECK((inode_of(both.directory / ("linked/" + shard)) ==
               inode_of(both.directory / ("out.new/" + shard))) == (option == "--link"));
    }
    // but not if the destination has all names of a source
    fs::create_directory(both.directory / "names");
    for (const auto& [name, contents] : both.new_files) {
        fs::create_hard_link(both.directory / ("out.new/" + name),
                             both.directory / ("out.new/second." + name));
        fs::create_symlink(both.directory / ("out.new/" + name),
                           both.directory / ("names/" + name));
    }
    const files before = files_in(both.directory / "out.new");
    CHECK(fuse_and_listen(both.directory / "names", both.directory / "out.new", {"--overwrite"})
              .status == 1);
    CHECK(files_in(both.directory / "out.new") == before);
    // nor if the source's name would then refer to another file, although the bytes have a third
    // name
    for (const auto& [name, contents] : both.new_files) {
        fs::create_directories(both.directory / "third");
        fs::rename(both.directory / ("out.new/second." + name), both.directory / ("third/" + name));
    }
    CHECK(fuse_and_listen(both.directory / "names", both.directory / "out.new", {"--overwrite"})
              .status == 1);
    CHECK(files_in(both.directory / "out.new") == both.new_files);
}

TEST_CASE(
    "replace: a destination that is a symbolic link stays one, and its target directory is "
    "replaced") {
    const two both;
    fs::create_directory(both.directory / "elsewhere");
    fs::rename(both.out(), both.directory / "elsewhere/real");
    fs::create_directory_symlink("elsewhere/real", both.out());
    REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
    CHECK(fs::is_symlink(both.out()));
    CHECK(files_in(both.directory / "elsewhere/real") == both.new_files);
    CHECK(files_in(both.directory / "elsewhere").size() == both.new_files.size());
}

TEST_CASE(
    "replace: a destination that is the source, inside it or around it is refused and untouched") {
    const two both;
    const files in_before = files_in(both.in());
    fs::create_directory(both.in() + "/below");
    both.reset(both.in() + "/below/out");
    const files all_before = files_in(both.in());
    CHECK(
        fuse_and_listen(both.in(), both.in(), {"--overwrite"}).has("it is the checkpoint to read"));
    CHECK(fuse_and_listen(both.in(), both.in() + "/below/out", {"--overwrite"}).status == 1);
    CHECK(files_in(both.in()) == all_before);
    both.reset();
    write_source(both.out() + "/sub/in", "new");
    const files out_before = files_in(both.out());
    CHECK(fuse_and_listen(both.out() + "/sub/in", both.out(), {"--overwrite"}).status == 1);
    CHECK(files_in(both.out()) == out_before);
    // through a link
    fs::create_directory_symlink(both.out(), both.directory / "link");
    CHECK(fuse_and_listen(both.directory / "link/sub/in", both.out(), {"--overwrite"}).status == 1);
    CHECK(
        fuse_and_listen(both.out() + "/sub/in", both.directory / "link", {"--overwrite"}).status ==
        1);
    CHECK(files_in(both.out()) == out_before);
    CHECK(is_tidy(both.out()));
}

// The lock
// ------------------------------------------------------------------------------------------

TEST_CASE(
    "replace: a directory that another run writes to is in_use, and the other run completes") {
    const two both;
    const auto set = sf::checkpoint::open(both.in());
    const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
    std::size_t count = 0;
    auto intrude = [&](const sf::run_progress&) {
        ++count;
        const said all = fuse_and_listen(both.in_old(), both.out(), {"--overwrite"});
        CHECK(all.status == 1);
        CHECK(all.has("another process is writing there"));
        return true;
    };
    fs::remove_all(both.out());
    REQUIRE(sf::rewrite(*plan, both.out(),
                        {.max_shard_bytes = 8000, .wait = sf::durability::renamed}, intrude));
    CHECK(count > 5);
    files expected = both.new_files;
    expected.erase("config.json");
    CHECK(files_in(both.out()) == expected);
}

TEST_CASE("replace: while one run replaces a checkpoint, every other run there is refused") {
    const two both;
    const auto set = sf::checkpoint::open(both.in());
    const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
    auto destination =
        sf::checkpoint_destination::open(both.out(), *set, {.what = sf::existing::replace});
    REQUIRE(destination);
    const std::string to{destination->directory()};
    auto intrude = [&](const sf::run_progress&) {
        CHECK(fuse_and_listen(both.in_old(), both.out(), {"--overwrite"})
                  .has("another process is writing there"));
        CHECK(fuse_and_listen(both.in(), both.out(), {"--resume"})
                  .has("another process is writing there"));
        CHECK(fuse_and_listen(both.in(), both.out()).status == 1);
        return true;
    };
    REQUIRE(sf::rewrite(
        *plan, to, {.max_shard_bytes = 8000, .wait = sf::durability::renamed, .keep_state = true},
        intrude));
    write_file(to + "/config.json", both.new_files.at("config.json"));
    REQUIRE(destination->commit());
    CHECK(files_in(both.out()) == both.new_files);
    CHECK(is_tidy(both.out()));
}

TEST_CASE(
    "replace: several processes that overwrite one directory at once: one after the other, or "
    "refused") {
    const two both;
    for (int round = 0; round < 5; ++round) {
        both.reset();
        std::vector<pid_t> children;
        std::fflush(nullptr);
        for (int i = 0; i < 4; ++i) {
            const pid_t child = ::fork();
            REQUIRE(child >= 0);
            if (child == 0) {
                if (std::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(9);
                ::_exit(fuse(i % 2 == 0 ? both.in() : both.in_old(), both.out(), {"--overwrite"}));
            }
            children.push_back(child);
        }
        int written = 0;
        for (const pid_t child : children) {
            int status = 0;
            ::waitpid(child, &status, 0);
            REQUIRE(WIFEXITED(status));
            CHECK(WEXITSTATUS(status) <= 1);
            written += WEXITSTATUS(status) == 0 ? 1 : 0;
        }
        CHECK(written >= 1);
        const files after = files_in(both.out());
        CHECK((after == both.new_files || after == both.old_files));
        CHECK(is_tidy(both.out()));
    }
}

// The state file
// ------------------------------------------------------------------------------------------

TEST_CASE("state: a symbolic link is refused, and its target is not written to") {
    const two both;
    const std::string state{sf::writer_state_file};
    for (const std::string where : {"out", "fresh"}) {
        fs::create_directory(both.directory / "fresh");
        const std::string precious = both.directory / "precious", to = both.directory / where;
        for (const bool dangles : {false, true}) {
            CAPTURE(where);
            CAPTURE(dangles);
            if (!dangles) write_file(precious, "mine");
            fs::create_symlink(precious, to + '/' + state);
            const files before = files_in(to);
            for (const std::string option : {"--overwrite", "--resume", "--any-expert-count"}) {
                const said all = fuse_and_listen(both.in(), to, {option});
                CHECK(all.status == 1);
                if (where == "fresh" || option != "--any-expert-count")
                    CHECK(all.has("is a symbolic link"));
            }
            CHECK(files_in(to) == before);
            CHECK(fs::exists(precious) == !dangles);
            if (!dangles) CHECK(read_file(precious) == "mine");
            fs::remove(to + '/' + state);
            fs::remove(precious);
        }
    }
}

TEST_CASE("state: a longer file of another version does not prevent a later resume") {
    const two both;
    const std::string to = both.directory / "fresh";
    fs::create_directory(to);
    write_file(to + '/' + std::string{sf::writer_state_file},
               std::string(200, 'x') + "\nand more\n");
    const auto set = sf::checkpoint::open(both.in());
    const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
    std::size_t left = 8;
    auto stop = [&](const sf::run_progress&) { return left-- > 1; };
    REQUIRE(
        !sf::rewrite(*plan, to, {.max_shard_bytes = 8000, .wait = sf::durability::renamed}, stop));
    REQUIRE(files_in(to).size() > 1);
    const std::string state = read_file(to + '/' + std::string{sf::writer_state_file});
    CHECK(state.find('\n') == state.size() - 1);
    CHECK(fuse(both.in(), to, {"--resume"}) == 0);
    CHECK(files_in(to) == both.new_files);
}

// Permissions
// ------------------------------------------------------------------------------------------

TEST_CASE(
    "permissions: new files allow no more than the source's and the replaced ones; the umask "
    "applies") {
    const mode_t before = ::umask(022);
    {
        const two both;
        const auto all_are = [](const std::string& directory, unsigned mode) {
            for (const auto& [name, contents] : files_in(directory))
                if (name.ends_with(".safetensors") || name.ends_with(".index.json"))
                    CHECK(mode_of(directory + '/' + name) == mode);
        };
        all_are(both.out(), 0644);
        // those of the source
        ::chmod((both.in() + "/model-00002-of-00003.safetensors").c_str(), 0600);
        REQUIRE(fuse(both.in(), both.directory / "private") == 0);
        all_are(both.directory / "private", 0600);
        ::chmod((both.in() + "/model-00002-of-00003.safetensors").c_str(), 0660);
        REQUIRE(fuse(both.in(), both.directory / "group") == 0);
        all_are(both.directory / "group", 0640);
        ::chmod((both.in() + "/model-00002-of-00003.safetensors").c_str(), 0444);
        REQUIRE(fuse(both.in(), both.directory / "read") == 0);
        all_are(both.directory / "read", 0644);
        // those of the destination, for both ways of replacing
        for (const bool has_notes : {false, true}) {
            CAPTURE(has_notes);
            both.reset();
            ::chmod((both.out() + "/model-00002-of-00006.safetensors").c_str(), 0600);
            ::chmod(both.out().c_str(), 0750);
            if (has_notes) write_file(both.out() + "/notes.txt", "mine");
            REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
            all_are(both.out(), 0600);
            CHECK(mode_of(both.out()) == 0750);
        }
        // of one file
        write_file(both.directory / "one", "old");
        ::chmod((both.directory / "one").c_str(), 0600);
        auto file = sf::output_file::create(both.directory / "one", 1);
        REQUIRE(file);
        REQUIRE(file->commit());
        CHECK(mode_of(both.directory / "one") == 0600);
    }
    ::umask(before);
}

// Limits and changes
// ------------------------------------------------------------------------------------------

TEST_CASE(
    "limits: a file larger than the process may write is a failure before anything is written, "
    "not a signal") {
    const two both;
    for (const bool is_program : {false, true}) {
        CAPTURE(is_program);
        const std::string answer = in_child([&] {
            ::signal(SIGXFSZ, SIG_DFL);
            const struct rlimit small{6000, RLIM_INFINITY};
            ::setrlimit(RLIMIT_FSIZE, &small);
            if (is_program) {
                const said all = fuse_and_listen(both.in(), both.out(), {"--overwrite"});
                return all.status == 1 && all.has("file size limit") ? std::string{}
                                                                     : "it says " + all.words;
            }
            const auto set = sf::checkpoint::open(both.in());
            const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
            const auto done =
                sf::rewrite(*plan, both.directory / "fresh", {.wait = sf::durability::renamed});
            if (done) return std::string{"it succeeds"};
            if (done.error().code != sf::errc::io_error || done.error().actual != 6000)
                return std::string{"another failure"};
            const auto file = sf::output_file::create(both.directory / "file", 6001);
            return !file && file.error().expected == 6001 ? std::string{} : std::string{"a file"};
        });
        CHECK(answer == "");
        CHECK(files_in(both.out()) == both.old_files);
        CHECK(is_tidy(both.out()));
        CHECK(!fs::exists(both.directory / "fresh"));
    }
}

TEST_CASE(
    "changes: a source that is overwritten while it is read is file_changed at the end; the "
    "old checkpoint stays") {
    const two both;
    const std::string shard = both.in() + "/model-00001-of-00003.safetensors";
    for (const bool replaces : {false, true}) {
        CAPTURE(replaces);
        const auto set = sf::checkpoint::open(both.in());
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        const std::string to = replaces ? both.out() : both.directory / "fresh";
        auto destination = sf::checkpoint_destination::open(
            to, *set,
            {.what = replaces ? sf::existing::replace : sf::existing::refuse,
             .wait = sf::durability::renamed});
        REQUIRE(destination);
        std::size_t count = 0;
        auto overwrite = [&](const sf::run_progress&) {
            if (++count != 6) return true;  // its bytes have been read; the size stays
            std::this_thread::sleep_for(std::chrono::milliseconds{20});
            std::fstream file{shard, std::ios::in | std::ios::out | std::ios::binary};
            file.seekp(-4, std::ios::end);
            file.write("late", 4);
            return true;
        };
        const auto done = sf::rewrite(
            *plan, destination->directory(),
            {.max_shard_bytes = 8000, .wait = sf::durability::renamed, .keep_state = true},
            overwrite);
        REQUIRE(count >= 6);
        REQUIRE(!done);
        CHECK(done.error().code == sf::errc::file_changed);
        CHECK(done.error().file == shard);
        if (replaces) CHECK(visible(files_in(both.out())) == both.old_files);
        CHECK(!files_in(to).contains("model.safetensors.index.json") == !replaces);
    }
    // after the last byte, before the old checkpoint is removed
    const auto set = sf::checkpoint::open(both.in());
    const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
    auto destination =
        sf::checkpoint_destination::open(both.out(), *set, {.what = sf::existing::replace});
    REQUIRE(destination);
    REQUIRE(sf::rewrite(
        *plan, destination->directory(),
        {.max_shard_bytes = 8000, .wait = sf::durability::renamed, .keep_state = true}));
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    std::fstream{shard, std::ios::in | std::ios::out | std::ios::binary}.write("\1", 1);
    const auto committed = destination->commit();
    REQUIRE(!committed);
    CHECK(committed.error().code == sf::errc::file_changed);
    CHECK(visible(files_in(both.out())) == both.old_files);
}

TEST_CASE(
    "replace: a parent that may not be written to: the new files are renamed into the directory "
    "one by one") {
    const temporary_directory top;
    ::chmod(top.string().c_str(), 0755);
    const two both;
    ::chmod(both.directory.string().c_str(), 0755);
    const std::string to = top / "out";
    both.reset(to);
    if (::geteuid() != 0) {
        std::printf("  skipped: only root gives up its rights\n");
        return;
    }
    constexpr uid_t nobody = 65534;
    for (const auto& entry : fs::recursive_directory_iterator{to})
        REQUIRE(::chown(entry.path().c_str(), nobody, nobody) == 0);
    REQUIRE(::chown(to.c_str(), nobody, nobody) == 0);
    const std::uint64_t before = inode_of(to);
    const std::string answer = in_child([&] {
        if (::setgid(nobody) != 0 || ::setuid(nobody) != 0) return std::string{"no other user"};
        const said all = fuse_and_listen(both.in(), to, {"--overwrite"});
        return all.status == 0 ? std::string{} : all.words;
    });
    CHECK(answer == "");
    CHECK(inode_of(to) == before);
    CHECK(files_in(to) == both.new_files);
    CHECK(is_tidy(to));
}
#endif

// Mounts and disks
// ------------------------------------------------------------------------------------------

#if defined(__linux__)
namespace {
/// Makes a mount namespace for the process. Returns the reason if that fails, otherwise "".
std::string own_mounts() {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return std::string{skipped} + "no mount namespace may be made here";
    static_cast<void>(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
    return {};
}
bool bind_mount(const std::string& from, const std::string& to) {
    return ::mount(from.c_str(), to.c_str(), nullptr, MS_BIND, nullptr) == 0;
}
}  // namespace

TEST_CASE(
    "mounts: a destination that is a bind mount of the source, around or inside it, is refused "
    "and nothing is lost") {
    const two both;
    const files before = files_in(both.in());
    const std::string answer = in_child([&] {
        if (std::string none = own_mounts(); !none.empty()) return none;
        fs::create_directory(both.directory / "mounted");
        if (!bind_mount(both.in(), both.directory / "mounted"))
            return std::string{skipped} + "no bind mount may be made here";
        std::string found;
        const auto refused = [&](const std::string& in, const std::string& out,
                                 const std::string& what) {
            for (const std::string option : {"--overwrite", "--resume", "--any-expert-count"}) {
                const said all = fuse_and_listen(in, out, {option});
                if (all.status != 1) found += what + option + " is not refused\n";
                if (option == "--overwrite" && !all.has("overlap"))
                    found += what + " says " + all.words;
            }
        };
        refused(both.in(), both.directory / "mounted", "OUT is IN");
        refused(both.directory / "mounted", both.in(), "IN is OUT");
        // inside: the parent of the destination is the source
        fs::create_directory(both.in() + "/sub");
        both.reset(both.in() + "/sub/out");
        refused(both.in(), both.directory / "mounted/sub/out", "inside");
        fs::remove_all(both.in() + "/sub");
        // single files: IN's shards are OUT's, mounted
        fs::create_directory(both.directory / "files");
        for (const auto& [name, contents] : before) {
            write_file(both.directory / ("files/" + name), "");
            if (!bind_mount(both.in() + '/' + name, both.directory / ("files/" + name)))
                return std::string{skipped} + "no file mount";
        }
        const files mounted = files_in(both.directory / "files");
        if (mounted != before) found += "the files are not mounted\n";
        refused(both.directory / "files", both.in(), "files");
        for (const auto& [name, contents] : before)
            ::umount((both.directory / ("files/" + name)).c_str());
        ::umount((both.directory / "mounted").c_str());
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
    CHECK(files_in(both.in()) == before);
}

TEST_CASE(
    "mounts: a destination that is a mount point is replaced file by file, and stays mounted") {
    const two both;
    const std::string answer = in_child([&] {
        if (std::string none = own_mounts(); !none.empty()) return none;
        const std::string to = both.directory / "mounted";
        fs::create_directory(to);
        if (!bind_mount(both.out(), to))
            return std::string{skipped} + "no bind mount may be made here";
        std::string found;
        if (fuse(both.in(), to, {"--overwrite"}) != 0) found += "it fails\n";
        if (files_in(to) != both.new_files)
            found += "not the new one: " + names_of(files_in(to)) + "\n";
        if (!is_tidy(to)) found += "something is left\n";
        if (inode_of(to) != inode_of(both.out())) found += "not the mount any more\n";
        ::umount(to.c_str());
        if (::mount("tmpfs", to.c_str(), "tmpfs", 0, "size=8m") != 0)
            return std::string{skipped} + "no tmpfs may be mounted here";
        fs::copy(both.directory / "out.old", to, fs::copy_options::recursive);
        if (fuse(both.in(), to, {"--overwrite"}) != 0) found += "tmpfs: it fails\n";
        if (files_in(to) != both.new_files) found += "tmpfs: not the new one\n";
        if (!is_tidy(to)) found += "tmpfs: something is left\n";
        ::umount(to.c_str());
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
}

TEST_CASE(
    "mounts: if two directories cannot be exchanged, the new files are renamed into the old one") {
    const two both;
    const std::string answer = in_child([&] {
        if (std::string none = own_mounts(); !none.empty()) return none;
        const std::string disk = both.directory / "disk", top = both.directory / "top";
        for (const std::string& each : {disk, top}) fs::create_directory(each);
        if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=8m") != 0)
            return std::string{skipped} + "no tmpfs may be mounted here";
        for (const std::string each : {"/lower", "/upper", "/work"})
            fs::create_directory(disk + each);
        both.reset(disk + "/lower/out");
        const std::string layers = "redirect_dir=off,lowerdir=" + disk + "/lower,upperdir=" + disk +
                                   "/upper,workdir=" + disk + "/work";
        if (::mount("overlay", top.c_str(), "overlay", 0, layers.c_str()) != 0)
            return std::string{skipped} + "no overlay may be mounted here";
        std::string found;
        // a directory of the lower layer cannot be renamed
        if (::rename((top + "/out").c_str(), (top + "/other").c_str()) == 0)
            found += "it can be renamed\n";
        if (fuse(both.in(), top + "/out", {"--overwrite"}) != 0) found += "it fails\n";
        if (files_in(top + "/out") != both.new_files)
            found += "not the new one: " + names_of(files_in(top + "/out")) + "\n";
        if (!is_tidy(top + "/out")) found += "something is left\n";
        ::umount(top.c_str());
        ::umount(disk.c_str());
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
}

TEST_CASE(
    "disk: without space for both checkpoints the overwrite is refused, and the old one is "
    "untouched") {
    const two both;
    const std::string answer = in_child([&] {
        if (std::string none = own_mounts(); !none.empty()) return none;
        const std::string disk = both.directory / "disk";
        fs::create_directory(disk);
        std::string found;
        for (const bool is_mount_point : {false, true}) {
            if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=128k") != 0)
                return std::string{skipped} + "no tmpfs may be mounted here";
            const std::string to = is_mount_point ? disk : disk + "/out";
            // about 44 KB are old, and as many would be new
            fs::copy(both.directory / "out.old", to, fs::copy_options::recursive);
            write_file(disk + "/filler", std::string(70'000, 'x'));
            const files before = files_in(disk);
            for (const std::string option : {"--any-expert-count", "--sync"}) {
                const said all = fuse_and_listen(both.in(), to, {"--overwrite", option});
                if (all.status != 1 || !all.has("no space left")) found += "it says " + all.words;
                if (!all.has("room for both")) found += "it does not say why: " + all.words;
                if (files_in(disk) != before)
                    found += "it is not as before: " + names_of(files_in(disk)) + "\n";
            }
            fs::remove(disk + "/filler");
            if (fuse(both.in(), to, {"--overwrite"}) != 0) found += "with room it fails\n";
            if (files_in(to) != both.new_files) found += "with room it is not the new one\n";
            ::umount(disk.c_str());
        }
        return found;
    });
    if (!is_skipped(answer)) CHECK(answer == "");
}
#endif

// Killed, and failing
// ------------------------------------------------------------------------------------------

#if defined(SAFEFUSE_TEST_CALLS)
namespace {

/// Where and how a checkpoint is replaced.
struct scene {
    std::string name;
    bool has_notes = false;       // makes the files be renamed one by one
    bool is_mount_point = false;  // makes the files be written inside, too
    bool syncs = false;
};

/// Ends a run in a child process at a call or after a time. Returns whether it was killed.
bool run_and_kill(const std::string& in, const std::string& out, std::vector<std::string> options,
                  std::size_t kill_at, std::chrono::microseconds after) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        if (std::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(9);
        armed = {.watches = true, .kill_at = kill_at};
        ::_exit(fuse(in, out, std::move(options)));
    }
    if (kill_at == 0) {
        std::this_thread::sleep_for(after);
        ::kill(child, SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) throw std::runtime_error{"the run fails"};
    return WIFSIGNALED(status);
}

/// The state after a kill: "old", "new", "between", or a description of the mistake.
std::string state_of(const two& both, const std::string& out, const scene& where) {
    files all = visible(files_in(out));
    if (where.has_notes) {
        if (!all.contains("notes.txt") || all["notes.txt"] != "mine" || all["runs/log"] != "mine")
            return "the notes are lost";
        all.erase("notes.txt");
        all.erase("runs/log");
    }
    if (all == both.old_files) return "old";
    if (all == both.new_files) return "new";
    // it must not load as a checkpoint, unless all its tensors are the old one's or all are the new
    // one's
    const auto early = sf::checkpoint::open(out);
    if (!early) return "between";
    for (const std::string& in : {both.in_old(), both.in()}) {
        const auto set = sf::checkpoint::open(in);
        const auto plan = sf::rewrite_plan::make(*set, sf::description_of<qwen>);
        if (sf::verify_rewritten(*plan, *early)) return "between";
    }
    return "it loads, and is neither: " + names_of(all);
}

/// Resumes or replaces again. Returns "" if all is well afterwards.
std::string complete(const two& both, const std::string& out, const scene& where,
                     const std::string& state, bool resumes) {
    std::fflush(nullptr);
    const said again = fuse_and_listen(both.in(), out, {resumes ? "--resume" : "--overwrite"});
    const std::string after = state_of(both, out, where);
    if (again.status != 0) {
        // there is nothing to resume before the first file is made and after the last one is gone
        if (!resumes || !again.has("not empty"))
            return "it cannot be gone on with (" + state + "): " + again.words;
        if (after != state || (state != "old" && state != "new"))
            return "it was " + state + ", is " + after;
        if (fuse(both.in(), out, {"--overwrite"}) != 0) return "it cannot be replaced";
    }
    if (const std::string last = state_of(both, out, where); last != "new")
        return "after it was completed it is " + last;
    if (!is_tidy(out)) return "something is left";
    return {};
}

void reset(const two& both, const std::string& out, const scene& where) {
    if (!where.is_mount_point) {
        both.reset(out);
        fs::remove_all(both.directory / ".out.safefuse-new");
    } else {
        for (const auto& entry : fs::directory_iterator{out}) fs::remove_all(entry.path());
        fs::copy(both.directory / "out.old", out, fs::copy_options::recursive);
    }
    if (!where.has_notes) return;
    write_file(out + "/notes.txt", "mine");
    fs::create_directory(out + "/runs");
    write_file(out + "/runs/log", "mine");
}

const std::vector<scene> scenes{{"exchanged", false, false, false},
                                {"exchanged, synced", false, false, true},
                                {"one by one", true, false, false},
                                {"one by one, synced", true, false, true},
                                {"in a mount", false, true, false}};

/// Runs f(out) in a scene and returns its answer.
std::string on_stage(const two& both, const scene& where,
                     const std::function<std::string(const std::string&)>& f) {
    if (!where.is_mount_point) return f(both.out());
    return in_child([&]() -> std::string {
        if (std::string none = own_mounts(); !none.empty()) return none;
        const std::string to = both.directory / "mounted";
        fs::create_directory(to);
        if (!bind_mount(both.out(), to))
            return std::string{skipped} + "no bind mount may be made here";
        std::string answer = f(to);
        ::umount(to.c_str());
        return answer;
    });
}

}  // namespace

TEST_CASE(
    "replace: killed at every call that changes something, the result is the old checkpoint, "
    "resumable, or the new one") {
    std::size_t kills = 0;
    for (const scene& where : scenes) {
        CAPTURE(where.name);
        const two both;
        std::map<std::string, int> states;
        const std::string answer =
            on_stage(both, where, [&](const std::string& out) -> std::string {
                std::vector<std::string> options{"--overwrite"};
                if (where.syncs) options.push_back("--sync");
                std::size_t killed = 0;
                // SAFEFUSE_KILLS set: every call, even if each waits for the disk
                const std::size_t step_size =
                    where.syncs && std::getenv("SAFEFUSE_KILLS") == nullptr ? 7 : 1;
                for (std::size_t at = 1;; at += step_size) {
                    reset(both, out, where);
                    if (!run_and_kill(both.in(), out, options, at, {})) break;
                    ++killed;
                    const std::string state = state_of(both, out, where);
                    ++states[state];
                    const std::string step = "at call " + std::to_string(at) + ": ";
                    if (state != "old" && state != "new" && state != "between") return step + state;
                    // kill the resuming run as well, soon after
                    if (at % 3 == 0) {
                        std::vector<std::string> again{at % 2 == 0 ? "--resume" : "--overwrite"};
                        try {
                            if (run_and_kill(both.in(), out, again, 1 + at % 29, {})) ++killed;
                        } catch (const std::runtime_error&) {  // there was nothing to resume
                        }
                    }
                    const std::string wrong = complete(both, out, where, state_of(both, out, where),
                                                       at % 2 == 0 || at % 5 == 0);
                    if (!wrong.empty()) return step + wrong;
                }
                if (killed * step_size < 30)
                    return "killed " + std::to_string(killed) + " times only";
                if (states["old"] == 0) return "never early";
                if (states["new"] + states["between"] == 0) return "never late";
                kills += killed;
                return {};
            });
        if (!is_skipped(answer)) CHECK(answer == "");
    }
    std::printf("  %zu kills, those in a mount not counted\n", kills);
}

TEST_CASE(
    "replace: killed at random moments, the result is the old checkpoint, resumable, or the "
    "new one") {
    // SAFEFUSE_KILLS=300: as many by hand
    const char* const asked = std::getenv("SAFEFUSE_KILLS");
    const int rounds = asked == nullptr ? 40 : std::atoi(asked);
    std::mt19937 random{5};
    const two both;
    std::map<std::string, int> states;
    int killed = 0;
    for (int round = 0; round < rounds; ++round) {
        const scene& where = scenes[static_cast<std::size_t>(round) % 4];
        CAPTURE(round);
        std::vector<std::string> options{"--overwrite"};
        if (where.syncs) options.push_back("--sync");
        reset(both, both.out(), where);
        const auto start = std::chrono::steady_clock::now();
        REQUIRE(!run_and_kill(both.in(), both.out(), options, ~std::size_t{0}, {}));
        const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
            std::chrono::steady_clock::now() - start);
        bool was_killed = false;
        while (!was_killed) {
            reset(both, both.out(), where);
            was_killed = run_and_kill(both.in(), both.out(), options, 0,
                                      whole * static_cast<int>(random() % 1000) / 1000);
        }
        ++killed;
        const std::string state = state_of(both, both.out(), where);
        ++states[state];
        CHECK((state == "old" || state == "new" || state == "between"));
        CHECK(complete(both, both.out(), where, state, round % 3 != 0) == "");
    }
    std::printf("  %d kills: old %d, between %d, new %d\n", killed, states["old"],
                states["between"], states["new"]);
    CHECK(killed == rounds);
}

TEST_CASE(
    "replace: whichever call fails, the result is the old checkpoint, resumable, or the new "
    "one, and no success is reported") {
    for (const scene& where : scenes) {
        CAPTURE(where.name);
        const two both;
        const std::string answer =
            on_stage(both, where, [&](const std::string& out) -> std::string {
                std::vector<std::string> options{"--overwrite"};
                if (where.syncs) options.push_back("--sync");
                const std::size_t step_size = std::getenv("SAFEFUSE_KILLS") == nullptr ? 5 : 1;
                for (std::size_t at = 1, count = 1; at <= count; at += step_size) {
                    reset(both, out, where);
                    armed = {.watches = true, .fail_at = at};
                    const said all = fuse_and_listen(both.in(), out, options);
                    count = last_count;
                    const std::string state = state_of(both, out, where);
                    const std::string step = "call " + std::to_string(at) + ": ";
                    if (state != "old" && state != "new" && state != "between") return step + state;
                    if (all.status == 0 && state != "new")
                        return step + "a success is told, and it is " + state;
                    if (const std::string wrong = complete(both, out, where, state, at % 2 == 0);
                        !wrong.empty())
                        return step + wrong;
                }
                return {};
            });
        if (!is_skipped(answer)) CHECK(answer == "");
    }
}

TEST_CASE(
    "writing: an error that the system reports only at close is a failure, and the file does "
    "not appear") {
    const temporary_directory directory;
    write_file(directory / "file", "old");
    for (const sf::durability wait : {sf::durability::synced, sf::durability::renamed}) {
        auto file = sf::output_file::create(directory / "file", 3);
        REQUIRE(file);
        REQUIRE(file->write(0, support::bytes_of("new")));
        calls = {.watches = true, .fails_close = true};
        const auto committed = file->commit(wait);
        calls = {};
        REQUIRE(!committed);
        CHECK(committed.error().code == sf::errc::io_error);
        CHECK(!file->commit(wait));
        CHECK(read_file(directory / "file") == "old");
        CHECK(files_in(directory.string()).size() == 1);
    }
}

TEST_CASE("writing: new and changed directories are synced, and so is the parent of a new one") {
    const two both;
    std::vector<std::string> synced;
    const auto has = [&](const std::string& path) {
        return std::find(synced.begin(), synced.end(), path) != synced.end();
    };
    armed = {.watches = true, .synced = &synced};
    REQUIRE(fuse(both.in(), both.directory / "fresh/", {"--sync"}) == 0);
    CHECK(has(both.directory.string()));
    CHECK(has(both.directory / "fresh"));
    synced.clear();
    armed = {.watches = true, .synced = &synced};
    REQUIRE(fuse(both.in(), both.out(), {"--sync", "--overwrite"}) == 0);
    CHECK(std::count(synced.begin(), synced.end(), both.directory.string()) >=
          2);  // at the start and at the end
    CHECK(synced.back() == both.out());
    synced.clear();
    armed = {.watches = true, .synced = &synced};
    REQUIRE(fuse(both.in(), both.out(), {"--overwrite"}) == 0);
    CHECK(synced.empty());
}
#endif
