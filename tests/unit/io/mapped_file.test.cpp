#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/io/positional_file.hpp>

#include <doctest/doctest.h>

#include <cstdio>
#include <set>
#include <span>
#include <thread>
#include <type_traits>

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>  // os_windows.hpp repeats its declarations: they must match
#else
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::read_file;
using support::temporary_directory;
using support::write_file;

static_assert(!std::is_copy_constructible_v<sf::mapped_file> &&
              std::is_nothrow_move_constructible_v<sf::mapped_file>);
static_assert(!std::is_copy_constructible_v<sf::positional_file> &&
              std::is_nothrow_move_assignable_v<sf::positional_file>);
static_assert(!std::is_copy_constructible_v<sf::output_file> &&
              std::is_nothrow_move_assignable_v<sf::output_file>);

namespace {

std::span<std::byte> writable(std::string& text) { return std::as_writable_bytes(std::span{text}); }

std::vector<std::string> names_in(const temporary_directory& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{directory.path()})
        names.insert(entry.path().filename().string());
    return {names.begin(), names.end()};
}

template <class Source>
sf::errc code_of(std::string_view path) {
    auto opened = Source::open(path);
    REQUIRE(!opened);
    CHECK(opened.error().file == path);
    return opened.error().code;
}

}  // namespace

TEST_CASE_TEMPLATE("file source: reads every range of a file and refuses ranges past its end",
                   Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 10'000);
    write_file(directory / "a.bin", contents);
    auto file = Source::open(directory / "a.bin");
    REQUIRE(file);
    CHECK(file->size_bytes() == contents.size());
    CHECK(file->path() == directory / "a.bin");
    for (const std::uint64_t offset : {0u, 1u, 4095u, 4096u, 9'999u, 10'000u})
        for (const std::size_t count : {0u, 1u, 2u, 4096u, 5904u, 10'000u}) {
            std::string out(count, '?');
            const auto done = file->read(offset, writable(out));
            CHECK(done.has_value() == (offset + count <= contents.size()));
            if (done)
                CHECK(out == contents.substr(offset, count));
            else
                CHECK(done.error().code == sf::errc::read_past_end);
        }
    std::string out(4, '?');
    const auto wrapped = file->read(~std::uint64_t{0} - 1, writable(out));
    REQUIRE(!wrapped);
    CHECK(wrapped.error().code == sf::errc::read_past_end);
    CHECK(wrapped.error().file == directory / "a.bin");
    CHECK(file->check_size());
}

TEST_CASE("mapped file: its bytes are the file's, and a move does not change their address") {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 70'000);
    write_file(directory / "a.bin", contents);
    auto opened = sf::mapped_file::open(directory / "a.bin");
    REQUIRE(opened);
    sf::mapped_file first = std::move(*opened);
    const std::byte* const at = first.bytes().data();
    sf::mapped_file second;
    second = std::move(first);
    CHECK(second.bytes().data() == at);
    CHECK(support::string_of(second.bytes()) == contents);
    CHECK(first.bytes().empty());  // NOLINT: the test is about the moved-from state
    CHECK(first.size_bytes() == 0);
    sf::mapped_file& alias = second;
    second = std::move(alias);
    CHECK(support::string_of(second.bytes()) == contents);
}

TEST_CASE("positional file: has no bytes in memory") {
    const temporary_directory directory;
    write_file(directory / "a.bin", "abc");
    const auto file = sf::positional_file::open(directory / "a.bin");
    REQUIRE(file);
    CHECK(file->bytes().empty());
}

TEST_CASE_TEMPLATE("file source: an empty file is legal", Source, sf::mapped_file,
                   sf::positional_file) {
    const temporary_directory directory;
    write_file(directory / "empty", "");
    const auto file = Source::open(directory / "empty");
    REQUIRE(file);
    CHECK(file->size_bytes() == 0);
    CHECK(file->bytes().empty());
    CHECK(file->read(0, {}));
    for (const sf::advice hint :
         {sf::advice::will_need, sf::advice::done_with, sf::advice::sequential})
        file->advise(0, 1, hint);
    std::byte one{};
    const auto past = file->read(0, {&one, 1});
    REQUIRE(!past);
    CHECK(past.error().code == sf::errc::read_past_end);
}

TEST_CASE_TEMPLATE("file source: advice with any range does not change what is read", Source,
                   sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 100'001);
    write_file(directory / "a.bin", contents);
    const auto file = Source::open(directory / "a.bin");
    REQUIRE(file);
    constexpr std::uint64_t huge = ~std::uint64_t{0};
    for (const sf::advice hint :
         {sf::advice::will_need, sf::advice::done_with, sf::advice::sequential})
        for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4096},
                                           std::uint64_t{100'000}, huge})
            for (const std::uint64_t count : {std::uint64_t{0}, std::uint64_t{1},
                                              std::uint64_t{8192}, std::uint64_t{100'001}, huge}) {
                file->advise(offset, count, hint);
                std::string out(contents.size(), '?');
                REQUIRE(file->read(0, writable(out)));
                REQUIRE(out == contents);
                if (!file->bytes().empty()) REQUIRE(support::string_of(file->bytes()) == contents);
            }
}

TEST_CASE_TEMPLATE(
    "file source: a file that cannot be opened says why and leaves no descriptor open", Source,
    sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_file(directory / "file", "abc");
    const std::size_t before = support::open_descriptors();
    CHECK(code_of<Source>(directory / "absent") == sf::errc::file_not_found);
    CHECK(code_of<Source>(directory / "absent/file") == sf::errc::file_not_found);
    CHECK(code_of<Source>("") == sf::errc::file_not_found);
    CHECK(code_of<Source>(directory.string()) == sf::errc::not_a_file);
    CHECK(code_of<Source>(std::string_view{"a\0b", 3}) == sf::errc::file_not_found);
    CHECK(code_of<Source>(directory / "file/inside") == sf::errc::not_a_directory);
    CHECK(code_of<Source>(directory / "file/inside/deeper") == sf::errc::not_a_directory);
#if defined(_WIN32)
    CHECK(code_of<Source>("NUL") == sf::errc::not_a_file);
    CHECK(code_of<Source>(directory / "\xFF") == sf::errc::io_error);  // not UTF-8
#else
    CHECK(code_of<Source>("/dev/null") == sf::errc::not_a_file);
    REQUIRE(::mkfifo((directory / "pipe").c_str(), 0600) == 0);
    // and it does not wait for a writer
    CHECK(code_of<Source>(directory / "pipe") == sf::errc::not_a_file);
    std::filesystem::create_symlink("loop", directory / "loop");
    CHECK(code_of<Source>(directory / "loop") == sf::errc::io_error);
    std::filesystem::create_symlink("nowhere", directory / "dangling");
    CHECK(code_of<Source>(directory / "dangling") == sf::errc::file_not_found);
    CHECK(code_of<Source>(directory / std::string(300, 'x')) == sf::errc::io_error);
    const auto absent = Source::open(directory / "absent");
    REQUIRE(!absent);
    CHECK(absent.error().os_error == ENOENT);
#endif
    CHECK(support::open_descriptors() == before);
}

#if !defined(_WIN32)
TEST_CASE_TEMPLATE("file source: a file that may not be read is permission_denied", Source,
                   sf::mapped_file, sf::positional_file) {
    if (::geteuid() == 0) {
        std::puts("  skipped: the superuser may read every file");
        return;
    }
    const temporary_directory directory;
    write_file(directory / "secret", "abc");
    std::filesystem::permissions(directory / "secret", std::filesystem::perms::none);
    CHECK(code_of<Source>(directory / "secret") == sf::errc::permission_denied);
}

TEST_CASE_TEMPLATE("file source: when descriptors run out, the message says how to raise the limit",
                   Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_file(directory / "file", "abc");
    struct ::rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &old) == 0);
    struct ::rlimit low = old;
    low.rlim_cur = 0;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
    const auto opened = Source::open(directory / "file");
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &old) == 0);
    REQUIRE(!opened);
    CHECK(opened.error().code == sf::errc::io_error);
    CHECK(opened.error().message().view().find("ulimit -n") != std::string_view::npos);
}

TEST_CASE_TEMPLATE("file source: a file cut short while it is open is file_changed with both sizes",
                   Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 50'000);
    write_file(directory / "a.bin", contents);
    auto file = Source::open(directory / "a.bin");
    REQUIRE(file);
    std::filesystem::resize_file(directory / "a.bin", 20'000);

    std::string out(30'000, '?');
    REQUIRE(file->read(0, writable(out).first(20'000)));
    CHECK(out.substr(0, 20'000) == contents.substr(0, 20'000));
    const auto done = file->read(0, writable(out));
    REQUIRE(!done);
    CHECK(done.error().code == sf::errc::file_changed);
    CHECK(done.error().file == directory / "a.bin");
    CHECK(done.error().expected == 50'000);
    CHECK(done.error().actual == 20'000);
    const auto same = file->check_size();
    REQUIRE(!same);
    CHECK(same.error().code == sf::errc::file_changed);
    CHECK(same.error().expected == 50'000);
    CHECK(same.error().actual == 20'000);

    std::filesystem::resize_file(directory / "a.bin", 60'000);
    const auto longer = file->check_size();
    REQUIRE(!longer);
    CHECK(longer.error().actual == 60'000);
}
#endif

TEST_CASE_TEMPLATE(
    "file source: every offset of a file of 5 GiB can be read, or the file is refused on 32 "
    "bits",
    Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    constexpr std::uint64_t gibibyte = std::uint64_t{1} << 30, size_bytes = 5 * gibibyte + 3;
    // positions around the limits of 31-bit and 32-bit offsets
    std::vector<std::pair<std::uint64_t, std::string>> written;
    for (const std::uint64_t offset : {std::uint64_t{0}, 2 * gibibyte - 4, 3 * gibibyte,
                                       4 * gibibyte - 4, 4 * gibibyte + 8, size_bytes - 8})
        written.emplace_back(offset, support::pattern("at " + std::to_string(offset), 8));
    auto made = sf::output_file::create(directory / "large", size_bytes,
                                        false);  // sparse: no blocks are reserved
    REQUIRE(made);
    for (const auto& [offset, bytes] : written)
        REQUIRE(made->write(offset, support::bytes_of(bytes)));
    REQUIRE(made->commit(sf::durability::renamed));
    CHECK(std::filesystem::file_size(directory / "large") == size_bytes);

    const auto file = Source::open(directory / "large");
    if (std::is_same_v<Source, sf::mapped_file> && sizeof(std::size_t) < 8) {
        REQUIRE(!file);
        CHECK(file.error().code == sf::errc::out_of_memory);
        CHECK(file.error().actual == size_bytes);
        return;
    }
    REQUIRE(file);
    CHECK(file->size_bytes() == size_bytes);
    CHECK(file->check_size());
    for (const auto& each : written) {
        // not a structured binding: clang 14 cannot capture one
        const std::uint64_t offset = each.first;
        const auto& bytes = each.second;
        CAPTURE(offset);
        std::string out(8, '?');
        REQUIRE(file->read(offset, writable(out)));
        CHECK(out == bytes);
        if (!file->bytes().empty())
            CHECK(support::string_of(file->bytes().subspan(static_cast<std::size_t>(offset), 8)) ==
                  bytes);
        file->advise(offset, 8, sf::advice::will_need);
        file->advise(offset, 1 << 20, sf::advice::done_with);
    }
    std::string out(8, '?');
    REQUIRE(file->read(4 * gibibyte - 8, writable(out)));
    CHECK(out == std::string(4, '\0') + written[3].second.substr(0, 4));
    const auto past = file->read(size_bytes - 7, writable(out));
    REQUIRE(!past);
    CHECK(past.error().code == sf::errc::read_past_end);

    std::error_code refused;  // Windows does not allow truncating a mapped file
    std::filesystem::resize_file(directory / "large", size_bytes - 4 * gibibyte,
                                 refused);  // the size modulo 2^32 is unchanged
    if (refused) return;
    const auto same = file->check_size();
    REQUIRE(!same);
    CHECK(same.error().code == sf::errc::file_changed);
    CHECK(same.error().actual == size_bytes - 4 * gibibyte);
}

// Letters of one to four UTF-8 bytes; the last one is two UTF-16 units on Windows.
constexpr const char8_t* far_name = u8"gewicht-\u00E4\u00F6\u00DF-\u0436-\u4E2D\u6587-\U0001F9E0";

TEST_CASE("path: is UTF-8 on every system, in files, directories and listings") {
    const temporary_directory directory;
    const std::filesystem::path inside = directory.path() / far_name;
    const std::u8string u8_name = far_name;
    const std::string name{u8_name.begin(), u8_name.end()};
    const std::string path = directory / name;

    REQUIRE(sf::detail::make_directory(path));
    CHECK(std::filesystem::is_directory(inside));
    auto made = sf::output_file::create(path + '/' + name, 3);
    REQUIRE(made);
    REQUIRE(made->write(0, support::bytes_of("abc")));
    REQUIRE(made->commit());
    CHECK(read_file(inside / far_name) == "abc");

    const auto mapped = sf::mapped_file::open(path + '/' + name);
    REQUIRE(mapped);
    CHECK(support::string_of(mapped->bytes()) == "abc");
    CHECK(mapped->path() == path + '/' + name);
    const auto positional = sf::positional_file::open(path + '/' + name);
    REQUIRE(positional);
    CHECK(positional->size_bytes() == 3);
    const auto absent = sf::mapped_file::open(path + "/absent-" + name);
    REQUIRE(!absent);
    CHECK(absent.error().code == sf::errc::file_not_found);
    CHECK(absent.error().message().view().find(name) != std::string_view::npos);

    REQUIRE(sf::detail::link_file(path + '/' + name, path + "/second-" + name));
    REQUIRE(sf::detail::rename_file(path + "/second-" + name, path + "/third-" + name));
    std::set<std::string> seen;
    REQUIRE(sf::detail::list_directory(
        path, [&](std::string_view each, bool) { return seen.insert(std::string{each}).second; }));
    CHECK(seen == std::set<std::string>{name, "third-" + name});
    REQUIRE(sf::detail::remove_file(path + "/third-" + name));
    const auto real = sf::detail::real_path(path + "/../" + name);
    REQUIRE(real);
    CHECK(real->view().ends_with(name));
    CHECK(sf::free_space_bytes(path));
}

TEST_CASE("positional file: many threads read at once") {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 400'000);
    write_file(directory / "a.bin", contents);
    const auto file = sf::positional_file::open(directory / "a.bin");
    REQUIRE(file);
    std::vector<std::string> parts(4, std::string(100'000, '?'));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < parts.size(); ++i)
        threads.emplace_back([&, i] { (void)file->read(i * 100'000, writable(parts[i])); });
    for (std::thread& each : threads) each.join();
    CHECK(parts[0] + parts[1] + parts[2] + parts[3] == contents);
}

TEST_CASE("output file: appears complete and under its name only when it is committed") {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 10'000);
    for (const sf::durability wait : {sf::durability::synced, sf::durability::renamed}) {
        auto file = sf::output_file::create(directory / "out.bin", contents.size());
        REQUIRE(file);
        CHECK(file->path() == directory / "out.bin");
        CHECK(file->size_bytes() == contents.size());
        CHECK(names_in(directory).size() == 1);
        CHECK(!std::filesystem::exists(directory / "out.bin"));
        REQUIRE(file->write(4'000, support::bytes_of(contents).subspan(4'000)));
        REQUIRE(file->write(0, support::bytes_of(contents).first(4'000)));
        REQUIRE(file->sync());
        REQUIRE(file->commit(wait));
        CHECK(names_in(directory) == std::vector<std::string>{"out.bin"});
        CHECK(read_file(directory / "out.bin") == contents);
        CHECK(!file->commit());
        CHECK(!file->write(0, support::bytes_of("x")));
        std::filesystem::remove(directory / "out.bin");
    }
}

TEST_CASE("output file: bytes that are never written are zero") {
    const temporary_directory directory;
    auto file = sf::output_file::create(directory / "out.bin", 5'000);
    REQUIRE(file);
    REQUIRE(file->write(4'999, support::bytes_of("x")));
    REQUIRE(file->commit());
    CHECK(read_file(directory / "out.bin") == std::string(4'999, '\0') + "x");
}

TEST_CASE("output file: an empty file can be made") {
    const temporary_directory directory;
    auto file = sf::output_file::create(directory / "empty", 0);
    REQUIRE(file);
    REQUIRE(file->commit());
    CHECK(std::filesystem::file_size(directory / "empty") == 0);
}

TEST_CASE("output file: without a commit no file remains and the old file is untouched") {
    const temporary_directory directory;
    write_file(directory / "out.bin", "old");
    const std::size_t before = support::open_descriptors();
    {
        auto file = sf::output_file::create(directory / "out.bin", 3);
        REQUIRE(file);
        REQUIRE(file->write(0, support::bytes_of("new")));
        sf::output_file moved = std::move(*file);
        CHECK(names_in(directory).size() == 2);
        moved = sf::output_file{};
        CHECK(names_in(directory).size() == 1);
        auto again = sf::output_file::create(directory / "out.bin", 3);
        REQUIRE(again);
    }
    CHECK(names_in(directory) == std::vector<std::string>{"out.bin"});
    CHECK(read_file(directory / "out.bin") == "old");
    CHECK(support::open_descriptors() == before);
}

#if !defined(_WIN32)  // Windows does not allow replacing a mapped file
TEST_CASE(
    "output file: replaces a file that is mapped elsewhere, and the mapping keeps the old bytes") {
    const temporary_directory directory;
    write_file(directory / "out.bin", "old bytes");
    const auto old = sf::mapped_file::open(directory / "out.bin");
    REQUIRE(old);
    auto file = sf::output_file::create(directory / "out.bin", 3);
    REQUIRE(file);
    REQUIRE(file->write(0, support::bytes_of("new")));
    REQUIRE(file->commit());
    CHECK(support::string_of(old->bytes()) == "old bytes");
    CHECK(old->check_size());
    CHECK(read_file(directory / "out.bin") == "new");
}

TEST_CASE("output file: replaces a symbolic link, not its target") {
    const temporary_directory directory;
    write_file(directory / "blob", "precious");
    std::filesystem::create_symlink("blob", directory / "model.safetensors");
    auto file = sf::output_file::create(directory / "model.safetensors", 3);
    REQUIRE(file);
    REQUIRE(file->write(0, support::bytes_of("new")));
    REQUIRE(file->commit());
    CHECK(read_file(directory / "blob") == "precious");
    CHECK(!std::filesystem::is_symlink(directory / "model.safetensors"));
    CHECK(read_file(directory / "model.safetensors") == "new");
}
#endif

TEST_CASE("output file: refuses to write past the size it was made with") {
    const temporary_directory directory;
    auto file = sf::output_file::create(directory / "out.bin", 4);
    REQUIRE(file);
    for (const std::uint64_t offset : {std::uint64_t{1}, std::uint64_t{5}, ~std::uint64_t{0} - 2}) {
        const auto done = file->write(offset, support::bytes_of("long"));
        REQUIRE(!done);
        CHECK(done.error().code == sf::errc::out_of_range);
        CHECK(done.error().file == directory / "out.bin");
        CHECK(done.error().expected == 4);
    }
}

TEST_CASE(
    "output file: a file that cannot be made says why, with the path of the target, and no "
    "file remains") {
    const temporary_directory directory;
    std::filesystem::create_directory(directory / "sub");
    write_file(directory / "file", "abc");
    const std::size_t before = support::open_descriptors();
    const auto code = [&](const std::string& path, std::uint64_t size_bytes = 1) {
        auto file = sf::output_file::create(path, size_bytes);
        REQUIRE(!file);
        CHECK(file.error().file == path);
        return file.error().code;
    };
    CHECK(code(directory / "sub") == sf::errc::not_a_file);
    CHECK(code(directory / "sub/") == sf::errc::not_a_file);
    CHECK(code(directory / "absent/file") == sf::errc::file_not_found);
    CHECK(code(directory / "file/inside") == sf::errc::not_a_directory);
    CHECK(code(directory / "huge", std::uint64_t{1} << 62) == sf::errc::io_error);
    CHECK(code(directory / "huge", ~std::uint64_t{0}) == sf::errc::io_error);
    CHECK(code("") == sf::errc::file_not_found);
    CHECK(names_in(directory) == std::vector<std::string>{"file", "sub"});
    CHECK(support::open_descriptors() == before);
}

#if !defined(_WIN32)  // Windows limits paths to 260 characters by default
TEST_CASE(
    "output file: a name of the greatest length works; its temporary name is cut between "
    "characters") {
    const temporary_directory directory;
    std::string name;
    while (name.size() < 252) name += "\xE4\xB8\xAD";
    for (const std::string& each : {name, std::string(255, 'n')}) {
        auto file = sf::output_file::create(directory / each, 1);
        REQUIRE(file);
        REQUIRE(file->commit());
        CHECK(std::filesystem::exists(directory / each));
    }
}
#endif

TEST_CASE("output file: several may exist for one path at once, the last commit wins") {
    const temporary_directory directory;
    std::vector<sf::output_file> files;
    for (int i = 0; i < 8; ++i) {
        auto file = sf::output_file::create(directory / "out.bin", 1);
        REQUIRE(file);
        REQUIRE(file->write(0, support::bytes_of(std::to_string(i))));
        files.push_back(std::move(*file));
    }
    for (sf::output_file& each : files) REQUIRE(each.commit(sf::durability::renamed));
    CHECK(read_file(directory / "out.bin") == "7");
    CHECK(names_in(directory).size() == 1);
}

TEST_CASE("output file: a path without a directory is in the working directory") {
    const temporary_directory directory;
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(directory.path());
    auto file = sf::output_file::create("plain", 1);
    const bool made = file && file->commit().has_value();
    std::filesystem::current_path(before);
    CHECK(made);
    CHECK(names_in(directory) == std::vector<std::string>{"plain"});
}

TEST_CASE("copy: gives the same bytes, also over an old file") {
    const temporary_directory directory;
    const std::string contents = support::pattern("contents", 2'500'000);
    write_file(directory / "a", contents);
    write_file(directory / "b", "old");
    REQUIRE(sf::copy_file(directory / "a", directory / "b", sf::durability::renamed));
    CHECK(read_file(directory / "b") == contents);
    const auto none = sf::copy_file(directory / "absent", directory / "c");
    REQUIRE(!none);
    CHECK(none.error().code == sf::errc::file_not_found);
    CHECK(names_in(directory) == std::vector<std::string>{"a", "b"});
}

#if !defined(_WIN32)
TEST_CASE("copy: has the same permissions as the original") {
    const temporary_directory directory;
    for (const unsigned mode : {0600u, 0640u, 0444u, 0755u}) {
        CAPTURE(mode);
        const std::string original = directory / "a", copy = directory / "b";
        write_file(original, "secret");
        std::filesystem::permissions(original, static_cast<std::filesystem::perms>(mode));
        REQUIRE(sf::copy_file(original, copy));
        CHECK(static_cast<unsigned>(std::filesystem::status(copy).permissions()) == mode);
        std::filesystem::remove(original);
        std::filesystem::remove(copy);
    }
}

TEST_CASE(
    "copy: a file copied onto itself by any name is unchanged; a link at the destination is "
    "replaced, not followed") {
    const temporary_directory directory;
    write_file(directory / "file", "contents");
    std::filesystem::create_symlink("file", directory / "link");
    std::filesystem::create_hard_link(directory / "file", directory / "other");
    for (const char* from : {"file", "link", "other"}) {
        CAPTURE(from);
        REQUIRE(sf::copy_file(directory / from, directory / "file"));
        CHECK(read_file(directory / "file") == "contents");
    }
    CHECK(std::filesystem::hard_link_count(directory / "file") == 2);

    write_file(directory / "another", "others");
    REQUIRE(sf::copy_file(directory / "another", directory / "link"));
    CHECK_FALSE(std::filesystem::is_symlink(directory / "link"));
    CHECK(read_file(directory / "link") == "others");
    CHECK(read_file(directory / "file") == "contents");
    std::filesystem::remove(directory / "link");
    std::filesystem::create_symlink("file", directory / "link");
    REQUIRE(sf::copy_file(directory / "file", directory / "link"));
    CHECK_FALSE(std::filesystem::is_symlink(directory / "link"));
    CHECK(read_file(directory / "link") == "contents");
    CHECK(names_in(directory) == std::vector<std::string>{"another", "file", "link", "other"});
}

TEST_CASE("file_identity: equal for all names of one file or directory, and only for those") {
    const temporary_directory directory;
    write_file(directory / "file", "contents");
    write_file(directory / "same", "contents");
    std::filesystem::create_symlink("file", directory / "link");
    std::filesystem::create_symlink("nothing", directory / "dangling");
    const auto file = sf::file_identity::of(directory / "file"),
               link = sf::file_identity::of(directory / "link"),
               same = sf::file_identity::of(directory / "same"),
               here = sf::file_identity::of(directory.string()),
               again = sf::file_identity::of(directory / ".");
    REQUIRE(file);
    REQUIRE(link);
    REQUIRE(same);
    REQUIRE(here);
    REQUIRE(again);
    CHECK(*file == *link);
    CHECK_FALSE(*file == *same);
    CHECK(*here == *again);
    CHECK_FALSE(*here == *file);
    const auto none = sf::file_identity::of(directory / "dangling");
    REQUIRE_FALSE(none);
    CHECK(none.error().code == sf::errc::file_not_found);
}
#endif

TEST_CASE("directory: is made, listed with kinds, and its files are removed and renamed") {
    const temporary_directory directory;
    REQUIRE(sf::detail::make_directory(directory / "sub"));
    const auto twice = sf::detail::make_directory(directory / "sub");
    REQUIRE(!twice);
    CHECK(twice.error().code == sf::errc::already_exists);
    write_file(directory / "file", "abc");
#if !defined(_WIN32)
    std::filesystem::create_directory_symlink("sub", directory / "link");
#else
    REQUIRE(sf::detail::make_directory(directory / "link"));
#endif
    std::set<std::pair<std::string, bool>> seen;
    REQUIRE(sf::detail::list_directory(directory.string(),
                                       [&](std::string_view name, bool is_directory) {
                                           seen.insert({std::string{name}, is_directory});
                                           return true;
                                       }));
    CHECK(seen ==
          std::set<std::pair<std::string, bool>>{{"file", false}, {"link", true}, {"sub", true}});

    int calls = 0;
    REQUIRE(sf::detail::list_directory(directory.string(),
                                       [&](std::string_view, bool) { return ++calls < 2; }));
    CHECK(calls == 2);

    REQUIRE(sf::detail::rename_file(directory / "file", directory / "renamed"));
    CHECK(read_file(directory / "renamed") == "abc");
    REQUIRE(sf::detail::remove_file(directory / "renamed"));
    CHECK(!sf::detail::remove_file(directory / "renamed"));
    const auto listed = sf::detail::list_directory(directory / "absent",
                                                   [](std::string_view, bool) { return true; });
    REQUIRE(!listed);
    CHECK(listed.error().code == sf::errc::file_not_found);
}

TEST_CASE("path: splits into directory and name, and joins again") {
    using sf::detail::directory_of;
    using sf::detail::file_name_of;
    CHECK(directory_of("a/b.json") == "a");
    CHECK(directory_of("a//b.json") == "a");
    CHECK(directory_of("/b.json") == "/");
    CHECK(directory_of("b.json") == ".");
    CHECK(directory_of("a/b/") == "a/b");
    CHECK(file_name_of("a/b.json") == "b.json");
    CHECK(file_name_of("b.json") == "b.json");
    CHECK(file_name_of("a/") == "");
    CHECK(sf::detail::join_path("a", "b") == "a/b");
    CHECK(sf::detail::join_path("a/", "b") == "a/b");
    CHECK(sf::detail::join_path("", "b") == "b");
}
