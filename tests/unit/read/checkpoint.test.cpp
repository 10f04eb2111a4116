#include <safefuse/read/checkpoint.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <set>
#include <span>
#include <thread>

#if !defined(_WIN32)
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::shard;
using support::string_of;
using support::temporary_directory;
using support::u8;
using note_kind = sf::checkpoint_note::kind;

static_assert(sf::tensor_set<sf::checkpoint> && sf::tensor_set<sf::positional_checkpoint>);
static_assert(std::is_nothrow_move_constructible_v<sf::checkpoint> &&
              !std::is_copy_constructible_v<sf::checkpoint>);

namespace {

std::span<std::byte> writable(std::string& text) { return std::as_writable_bytes(std::span{text}); }

const std::string index_name = "model.safetensors.index.json";

std::string series(int i, int n) {
    return std::string{
        sf::shard_name("model", static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(n))
            .view()};
}

/// Three shards; the order of the names differs from that of the files.
std::vector<shard> three_shards() {
    return {{series(1, 3), {u8("z", {4, 5}), u8("a", {3})}},
            {series(2, 3), {u8("m", {2, 2}), support::bf16("b", {6, 2})}},
            {series(3, 3), {u8("c", {}), u8("e", {0, 3})}}};
}

void write_index(const temporary_directory& directory,
                 const std::vector<std::pair<std::string, std::string>>& map,
                 const std::string& name = index_name) {
    std::string json;
    for (const auto& [tensor, file] : map)
        json += (json.empty() ? "" : ", ") + support::json_string(tensor) + ": " +
                support::json_string(file);
    support::write_file(directory / name, "{\"weight_map\": {" + json + "}}");
}

/// Opens the checkpoint mapped and by offset. Both must fail alike and leave no descriptor open;
/// verify() must report the same.
sf::failure refused(const std::string& path, const sf::checkpoint_options& options = {}) {
    const std::size_t before = support::open_descriptors();
    auto mapped = sf::checkpoint::open(path, options);
    auto positional = sf::positional_checkpoint::open(path, options);
    CHECK(support::open_descriptors() == before);
    REQUIRE(!mapped);
    REQUIRE(!positional);
    CHECK(mapped.error().code == positional.error().code);
    CHECK(mapped.error().message() == positional.error().message());
    auto report = sf::checkpoint::verify(path, options);
    REQUIRE(report);
    CHECK(support::open_descriptors() == before);
    CHECK(!report->is_sound());
    bool is_reported = false;
    for (const sf::failure& each : report->failures())
        is_reported = is_reported || each.message() == mapped.error().message();
    CHECK_MESSAGE(is_reported, mapped.error().message().view());
    return std::move(mapped).error();
}

bool contains(const sf::text& text, std::string_view part) {
    return text.view().find(part) != std::string_view::npos;
}

template <class Checkpoint>
void check_tensors(const Checkpoint& set, const std::vector<shard>& shards) {
    std::size_t count = 0;
    for (std::size_t f = 0; f < shards.size(); ++f) {
        for (const support::tensor& each : shards[f].tensors) {
            CAPTURE(each.name);
            const std::size_t i = set.index_of(each.name);
            REQUIRE(i == count);  // numbered by file and offset
            ++count;
            CHECK(set.spec(i).name == each.name);
            CHECK(sf::name(set.spec(i).type) == each.type);
            const sf::tensor_location place = set.place(i);
            CHECK(place.source == f);
            CHECK(place.size_bytes == each.data.size());
            CHECK(set.source_name(place.source).ends_with(shards[f].file));
            const std::string file = support::read_file(set.source_name(place.source));
            CHECK(file.substr(place.offset, place.size_bytes) == each.data);
            std::string by_name(each.data.size(), '?'), by_index = by_name, by_place = by_name;
            REQUIRE(set.read(each.name, writable(by_name)));
            REQUIRE(set.read(i, writable(by_index)));
            REQUIRE(set.read(place.source, place.offset, writable(by_place)));
            CHECK(by_name == each.data);
            CHECK(by_index == each.data);
            CHECK(by_place == each.data);
            const auto view = set.find(each.name);
            if (set.source_bytes(place.source).empty()) {
                REQUIRE(!view);
                CHECK(view.error().code == sf::errc::not_resident);
            } else {
                REQUIRE(view);
                CHECK(string_of(view->bytes()) == each.data);
            }
            for (const sf::advice hint :
                 {sf::advice::will_need, sf::advice::sequential, sf::advice::done_with})
                set.advise(place.source, place.offset, place.size_bytes, hint);
        }
    }
    CHECK(set.size() == count);
    CHECK(set.file_count() == shards.size());
    CHECK(set.index_of("absent") == Checkpoint::npos);
    const auto absent = set.find("absent");
    REQUIRE(!absent);
    CHECK(absent.error().code == sf::errc::tensor_not_found);
    CHECK(absent.error().tensor == "absent");
    CHECK(set.read("absent", {}).error().code == sf::errc::tensor_not_found);
    CHECK(set.read_slice("absent", {}, {}).error().code == sf::errc::tensor_not_found);
}

sf::checkpoint_report verified(const std::string& path) {
    auto report = sf::checkpoint::verify(path);
    REQUIRE(report);
    // If the checkpoint can be opened, open() reports the same as verify(). If not, it reports
    // nothing.
    sf::checkpoint_report on_the_way;
    const bool is_open = sf::checkpoint::open(path, {}, on_the_way).has_value();
    CHECK(is_open == report->is_sound());
    CHECK(on_the_way.file_count() == (is_open ? report->file_count() : 0));
    CHECK(on_the_way.tensor_count() == (is_open ? report->tensor_count() : 0));
    CHECK(on_the_way.tensor_bytes() == (is_open ? report->tensor_bytes() : 0));
    REQUIRE(on_the_way.notes().size() == (is_open ? report->notes().size() : 0));
    for (std::size_t i = 0; i < on_the_way.notes().size(); ++i)
        CHECK(on_the_way.notes()[i].message() == report->notes()[i].message());
    return std::move(*report);
}

}  // namespace

// ---- opening valid checkpoints

TEST_CASE_TEMPLATE("checkpoint: a directory with an index gives every tensor of every shard",
                   Checkpoint, sf::checkpoint, sf::positional_checkpoint) {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    for (const std::string& path :
         {directory.string(), directory.string() + "/", directory / index_name}) {
        auto set = Checkpoint::open(path);
        REQUIRE_MESSAGE(set, set.error().message().view());
        CHECK(set->index_path().ends_with(index_name));
        CHECK(set->unlisted_count() == 0);
        check_tensors(*set, three_shards());
        const Checkpoint moved = std::move(*set);
        check_tensors(moved, three_shards());
    }
    const auto report = verified(directory.string());
    CHECK(report.is_sound());
    CHECK(report.notes().empty());
    CHECK(report.file_count() == 3);
    CHECK(report.tensor_count() == 6);
    CHECK(report.tensor_bytes() == 20 + 3 + 4 + 24 + 1 + 0);
}

TEST_CASE_TEMPLATE("checkpoint: a slice is read by name and by number", Checkpoint, sf::checkpoint,
                   sf::positional_checkpoint) {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto set = Checkpoint::open(directory.string());
    REQUIRE(set);
    const std::string data = three_shards()[0].tensors[0].data;  // z [4, 5]
    std::string out(4, '?');
    REQUIRE(set->read_slice("z", std::array{sf::range(1, 3), sf::range(2, 4)}, writable(out)));
    CHECK(out == data.substr(7, 2) + data.substr(12, 2));
    REQUIRE(set->read_slice(set->index_of("z"), std::array{sf::range(0, 2), sf::range(0, 2)},
                            writable(out)));
    CHECK(out == data.substr(0, 2) + data.substr(5, 2));
    const auto bad = set->read_slice("z", std::array{sf::range(0, 9)}, writable(out));
    REQUIRE(!bad);
    CHECK(bad.error().code == sf::errc::out_of_range);
    CHECK(bad.error().tensor == "z");
    CHECK(bad.error().file == directory / series(1, 3));
}

TEST_CASE("checkpoint: one tensor file, named or alone in its directory, is a checkpoint") {
    for (const std::string file : {"model.safetensors", "diffusion_pytorch_model.safetensors",
                                   "model-00001-of-00001.safetensors"}) {
        const temporary_directory directory;
        const std::vector<shard> shards = {{file, {u8("z", {4}), u8("a", {3, 2})}}};
        support::write_shards(directory.path(), shards);
        support::write_file(directory / "tokenizer.json", "{}");
        support::write_file(directory / "config.json", "{}");
        for (const std::string& path : {directory.string(), directory / file}) {
            const auto set = sf::checkpoint::open(path);
            REQUIRE_MESSAGE(set, set.error().message().view());
            CHECK(set->index_path().empty());
            check_tensors(*set, shards);
            CHECK(verified(path).is_sound());
        }
    }
}

TEST_CASE("checkpoint: a tensor file of any name can be named, one of a series too") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto one = sf::checkpoint::open(directory / series(2, 3));
    REQUIRE(one);
    check_tensors(*one, {three_shards()[1]});
    support::write_tensor_file(directory / "0a1b2c", {u8("x", {2})});
    const auto blob = sf::checkpoint::open(directory / "0a1b2c");
    REQUIRE(blob);
    CHECK(blob->index_of("x") == 0);
}

TEST_CASE("checkpoint: model.safetensors has precedence over other files, and an index over it") {
    const temporary_directory directory;
    support::write_shards(directory.path(), {{"model.safetensors", {u8("right", {1})}},
                                             {"other.safetensors", {u8("wrong", {1})}}});
    support::write_shards(directory.path(), three_shards());
    const auto single = sf::checkpoint::open(directory.string());
    REQUIRE(single);
    CHECK(single->size() == 1);
    CHECK(single->index_of("right") == 0);

    support::write_file(directory / index_name, support::index_text(three_shards()));
    const auto indexed = sf::checkpoint::open(directory.string());
    REQUIRE(indexed);
    check_tensors(*indexed, three_shards());
    const auto report = verified(directory.string());
    CHECK(report.is_sound());
    REQUIRE(report.notes().size() == 2);
    CHECK(report.notes()[0].what == note_kind::unused_file);
    CHECK(report.notes()[0].file == directory / "model.safetensors");
    CHECK(report.notes()[1].file == directory / "other.safetensors");
    CHECK(contains(report.notes()[1].message(), "not used"));
}

TEST_CASE(
    "checkpoint: a complete numbered series needs no index, from 0 or from 1, with any padding") {
    for (const std::vector<std::string>& names :
         {std::vector<std::string>{series(1, 3), series(2, 3), series(3, 3)},
          {"model-0-of-3.safetensors", "model-1-of-3.safetensors", "model-2-of-3.safetensors"},
          {"model-001-of-3.safetensors", "model-2-of-3.safetensors",
           "model-03-of-3.safetensors"}}) {
        const temporary_directory directory;
        std::vector<shard> shards = three_shards();
        for (std::size_t i = 0; i < 3; ++i) shards[i].file = names[i];
        support::write_shards(directory.path(), shards);
        const auto set = sf::checkpoint::open(directory.string());
        REQUIRE_MESSAGE(set, set.error().message().view());
        check_tensors(*set, shards);
        CHECK(verified(directory.string()).is_sound());
    }
}

TEST_CASE("checkpoint: files are in natural order, 2 before 10") {
    const temporary_directory directory;
    std::vector<shard> shards;
    for (int i = 1; i <= 12; ++i)
        shards.push_back({"m-" + std::to_string(i) + "-of-12.safetensors",
                          {u8("t" + std::to_string(100 - i), {2})}});
    support::write_shards(directory.path(), shards);
    const auto by_series = sf::checkpoint::open(directory.string());
    REQUIRE(by_series);
    check_tensors(*by_series, shards);
    support::write_file(directory / index_name, support::index_text(shards));
    const auto by_index = sf::checkpoint::open(directory.string());
    REQUIRE(by_index);
    check_tensors(*by_index, shards);
}

TEST_CASE("checkpoint: shards may be in subdirectories") {
    const temporary_directory directory;
    const std::vector<shard> shards = {{"sub/a.safetensors", {u8("x", {3})}},
                                       {"sub/deep/b.safetensors", {u8("y", {4})}}};
    support::write_checkpoint(directory.path(), shards);
    const auto set = sf::checkpoint::open(directory.string());
    REQUIRE(set);
    check_tensors(*set, shards);
    CHECK(verified(directory.string()).notes().empty());
}

TEST_CASE("checkpoint: hidden files and directories named like tensor files are ignored") {
    const temporary_directory directory;
    support::write_shards(directory.path(), {{"only.safetensors", {u8("x", {3})}}});
    support::write_file(directory / "._only.safetensors", "junk that macOS leaves");
    support::write_file(directory / ("._" + index_name), "junk");
    support::write_file(directory / "model.safetensors.incomplete", "junk");
    std::filesystem::create_directory(directory / "folder.safetensors");
    std::filesystem::create_directory(directory / "folder.safetensors.index.json");
    const auto set = sf::checkpoint::open(directory.string());
    REQUIRE_MESSAGE(set, set.error().message().view());
    CHECK(set->size() == 1);
}

TEST_CASE("checkpoint: a path relative to the working directory works") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(directory.path());
    const bool by_directory = sf::checkpoint::open(".").has_value();
    const bool by_index = sf::checkpoint::open(index_name).has_value();
    const bool by_file = sf::checkpoint::open(series(1, 3)).has_value();
    std::filesystem::current_path(before);
    CHECK(by_directory);
    CHECK(by_index);
    CHECK(by_file);
}

#if !defined(_WIN32)
TEST_CASE(
    "checkpoint: symbolic links into a cache outside the directory are followed, as the hub's "
    "cache needs") {
    const temporary_directory directory;
    std::filesystem::create_directories(directory.path() / "blobs");
    std::filesystem::create_directories(directory.path() / "snapshots/abc");
    const std::vector<shard> shards = three_shards();
    for (std::size_t i = 0; i < shards.size(); ++i) {
        const std::string blob = "blob" + std::to_string(i);
        support::write_tensor_file(directory.path() / "blobs" / blob, shards[i].tensors);
        std::filesystem::create_symlink("../../blobs/" + blob,
                                        directory.path() / "snapshots/abc" / shards[i].file);
    }
    support::write_file(directory.path() / "blobs/index", support::index_text(shards));
    std::filesystem::create_symlink("../../blobs/index",
                                    directory.path() / "snapshots/abc" / index_name);
    for (const std::string& path :
         {directory / "snapshots/abc", directory / "snapshots/abc/model.safetensors.index.json"}) {
        const auto set = sf::checkpoint::open(path);
        REQUIRE_MESSAGE(set, set.error().message().view());
        check_tensors(*set, shards);
        CHECK(verified(path).is_sound());
    }
    // a link without its target is a missing shard
    std::filesystem::remove(directory.path() / "blobs/blob1");
    CHECK(refused(directory / "snapshots/abc").code == sf::errc::missing_shard);
}
#endif

TEST_CASE("checkpoint: a file without tensors is legal, an index without any is refused") {
    const temporary_directory directory;
    write_index(directory, {});
    const sf::failure why = refused(directory.string());
    CHECK(why.code == sf::errc::bad_index);
    CHECK(contains(why.message(), "weight_map is empty"));
    CHECK(!verified(directory.string()).is_sound());
    support::write_file(directory / "empty.safetensors", support::framed("{}"));
    const auto empty = sf::checkpoint::open(directory / "empty.safetensors");
    REQUIRE(empty);
    CHECK(empty->size() == 0);
    CHECK(empty->file_count() == 1);
}

// ---- the index decides

TEST_CASE("index authority: unlisted tensors are counted and reported, and visible unless hidden") {
    const temporary_directory directory;
    support::write_shards(
        directory.path(),
        {{"a.safetensors", {u8("x", {3}), u8("stale1", {5}), u8("y", {2}), u8("stale2", {1})}}});
    write_index(directory, {{"y", "a.safetensors"}, {"x", "a.safetensors"}});
    const auto all = sf::checkpoint::open(directory.string());
    REQUIRE(all);
    CHECK(all->size() == 4);
    CHECK(all->unlisted_count() == 2);
    CHECK(all->find("stale1").has_value());
    const auto set = sf::checkpoint::open(directory.string(), {.show_unlisted = false});
    REQUIRE(set);
    CHECK(set->size() == 2);
    CHECK(set->unlisted_count() == 2);
    CHECK(set->spec(0).name == "x");
    CHECK(set->spec(1).name == "y");
    CHECK(set->index_of("stale1") == set->npos);
    CHECK(set->file(0).index_of("stale1") == 1);
    const auto report = verified(directory.string());
    CHECK(report.is_sound());
    REQUIRE(report.notes().size() == 1);
    CHECK(report.notes()[0].what == note_kind::unlisted_tensors);
    CHECK(report.notes()[0].count == 2);
    CHECK(report.notes()[0].tensor == "stale1");
    CHECK(report.notes()[0].file == directory / "a.safetensors");
    CHECK(contains(report.notes()[0].message(),
                   "2 tensors that the index does not list, first \"stale1\""));
}

TEST_CASE("index authority: an overlay supersedes the copies in the base shards") {
    const temporary_directory directory;
    support::write_shards(directory.path(), {{"base.safetensors", {u8("w", {3}), u8("v", {2})}}});
    support::tensor better = u8("w", {3});
    better.data = "new";
    support::write_shards(directory.path(), {{"overlay.safetensors", {better}}});
    write_index(directory, {{"v", "base.safetensors"}, {"w", "overlay.safetensors"}});
    const auto set = sf::checkpoint::open(directory.string());
    REQUIRE(set);
    CHECK(set->size() == 2);
    CHECK(string_of(set->find("w")->bytes()) == "new");
    CHECK(set->place(set->index_of("w")).source == 1);
    const auto report = verified(directory.string());
    CHECK(report.is_sound());
    REQUIRE(report.notes().size() == 1);
    CHECK(report.notes()[0].what == note_kind::superseded_tensors);
    CHECK(report.notes()[0].count == 1);
    CHECK(report.notes()[0].tensor == "w");
}

TEST_CASE("index authority: of two splits in one directory the index selects one") {
    const temporary_directory directory;
    support::write_shards(directory.path(), three_shards());
    support::write_shards(directory.path(), {{series(1, 2), {u8("z", {4, 5}), u8("a", {3})}},
                                             {series(2, 2), {u8("m", {2, 2})}}});
    support::write_shards(directory.path(), {{"consolidated.safetensors", {u8("z", {4, 5})}}});
    support::write_file(directory / index_name, support::index_text(three_shards()));
    const auto set = sf::checkpoint::open(directory.string());
    REQUIRE(set);
    check_tensors(*set, three_shards());
    CHECK(verified(directory.string()).notes().size() == 3);
}

TEST_CASE("index authority: a wrong total_size is a note, not a failure") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    std::string json = support::read_file(directory / index_name);
    json.replace(json.find("\"total_size\": 52"), 16, "\"total_size\": 99");
    support::write_file(directory / index_name, json);
    CHECK(sf::checkpoint::open(directory.string()));
    const auto report = verified(directory.string());
    CHECK(report.is_sound());
    REQUIRE(report.notes().size() == 1);
    CHECK(report.notes()[0].what == note_kind::total_size_differs);
    CHECK(report.notes()[0].expected == 99);
    CHECK(report.notes()[0].actual == 52);
    CHECK(contains(report.notes()[0].message(), "total_size is 99, but the tensors have 52 bytes"));
}

TEST_CASE("index authority: a named index is used, even if there are two") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    support::write_shards(directory.path(), {{"fp16.safetensors", {u8("half", {2})}}});
    write_index(directory, {{"half", "fp16.safetensors"}}, "model.fp16.safetensors.index.json");
    // files without a variant come first
    const auto plain = sf::checkpoint::open(directory.string());
    REQUIRE(plain);
    CHECK(plain->index_of("half") == plain->npos);
    const auto variant = sf::checkpoint::open(directory.string(), {.variant = "fp16"});
    REQUIRE(variant);
    CHECK(variant->index_of("half") == 0);
    const auto half = sf::checkpoint::open(directory / "model.fp16.safetensors.index.json");
    REQUIRE(half);
    CHECK(half->size() == 1);
    const auto full = sf::checkpoint::open(directory / index_name);
    REQUIRE(full);
    check_tensors(*full, three_shards());
}

// ---- problems

TEST_CASE("index: a shard that is named but missing is reported with its file name") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    std::filesystem::remove(directory / series(2, 3));
    const sf::failure why = refused(directory.string());
    CHECK(why.code == sf::errc::missing_shard);
    CHECK(why.file == directory / series(2, 3));
    CHECK(why.tensor == "m");
    CHECK(contains(why.detail, index_name));
    CHECK(contains(why.message(), series(2, 3)));
}

TEST_CASE("index: a tensor that its shard lacks names both") {
    const temporary_directory directory;
    support::write_shards(directory.path(), three_shards());
    write_index(directory, {{"z", series(1, 3)}, {"gone", series(2, 3)}});
    const sf::failure why = refused(directory.string());
    CHECK(why.code == sf::errc::tensor_not_in_shard);
    CHECK(why.file == directory / series(2, 3));
    CHECK(why.tensor == "gone");
}

TEST_CASE("index: a tensor listed in the wrong shard is not looked for elsewhere") {
    const temporary_directory directory;
    support::write_shards(directory.path(), three_shards());
    write_index(directory, {{"z", series(2, 3)}});
    CHECK(refused(directory.string()).code == sf::errc::tensor_not_in_shard);
}

TEST_CASE(
    "index: a shard that is truncated, too long, empty, no tensor file or no file at all is "
    "named") {
    const auto code = [](const std::string& contents) {
        const temporary_directory directory;
        support::write_checkpoint(directory.path(), three_shards());
        support::write_file(directory / series(3, 3), contents);
        const sf::failure why = refused(directory.string());
        CHECK(why.file == directory / series(3, 3));
        return why.code;
    };
    const std::string whole = support::tensor_file_bytes(three_shards()[2].tensors);
    CHECK(code(whole.substr(0, whole.size() - 1)) == sf::errc::data_truncated);
    CHECK(code(whole + "1234") == sf::errc::trailing_bytes);
    CHECK(code("") == sf::errc::header_too_short);
    CHECK(code("<html>not found</html>") == sf::errc::another_format);
    CHECK(code("version https://git-lfs.github.com/spec/v1\n") == sf::errc::another_format);
    CHECK(code(support::framed("{\"a\":1}")) == sf::errc::header_bad_entry);

    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    std::filesystem::remove(directory / series(3, 3));
    std::filesystem::create_directory(directory / series(3, 3));
    CHECK(refused(directory.string()).code == sf::errc::not_a_file);
#if !defined(_WIN32)
    std::filesystem::remove(directory / series(3, 3));
    REQUIRE(::mkfifo((directory / series(3, 3)).c_str(), 0600) == 0);
    CHECK(refused(directory.string()).code == sf::errc::not_a_file);
    if (::geteuid() != 0) {
        std::filesystem::remove(directory / series(3, 3));
        support::write_file(directory / series(3, 3), whole);
        std::filesystem::permissions(directory / series(3, 3), std::filesystem::perms::none);
        CHECK(refused(directory.string()).code == sf::errc::permission_denied);
    } else {
        std::puts("  skipped: the superuser may read every file");
    }
#endif
}

TEST_CASE("index: names that leave the directory are refused though the file is there") {
    const temporary_directory directory;
    std::filesystem::create_directory(directory / "inner");
    support::write_shards(directory.path(), {{"secret.safetensors", {u8("x", {3})}}});
    support::write_shards(directory.path() / "inner", {{"a.safetensors", {u8("x", {3})}}});
    for (const std::string& file :
         {std::string{"../secret.safetensors"}, std::string{"sub/../../secret.safetensors"},
          directory / "secret.safetensors", std::string{"..\\secret.safetensors"},
          std::string{"C:\\secret.safetensors"}, std::string{"\\\\host\\secret.safetensors"},
          std::string{"a.safetensors/../../secret.safetensors"}, std::string{}}) {
        CAPTURE(file);
        support::write_file(directory / "inner/model.safetensors.index.json",
                            "{\"weight_map\": {\"x\": " + support::json_string(file) + "}}");
        const sf::failure why = refused(directory / "inner");
        CHECK(why.code == sf::errc::path_leaves_directory);
        CHECK(why.file == directory / "inner/model.safetensors.index.json");
        CHECK(why.tensor == "x");
    }
}

TEST_CASE("index: broken indexes name the index") {
    const temporary_directory directory;
    support::write_shards(directory.path(), three_shards());
    struct row {
        std::string json;
        sf::errc code;
    };
    const row rows[] = {
        {"", sf::errc::bad_json},
        {"{", sf::errc::bad_json},
        {"{}", sf::errc::bad_index},
        {"[]", sf::errc::bad_index},
        {R"({"weight_map": 3})", sf::errc::bad_index},
        {R"({"weight_map": {"z": "model-00001-of-00003.safetensors", "z": "model-00002-of-00003.safetensors"}})",
         sf::errc::bad_index},
        {R"({"weight_map": {"z": "pytorch_model.bin"}})", sf::errc::bad_index},
        {R"({"weight_map": {"z": null}})", sf::errc::bad_index},
    };
    for (const row& each : rows) {
        CAPTURE(each.json);
        support::write_file(directory / index_name, each.json);
        const sf::failure why = refused(directory.string());
        CHECK(why.code == each.code);
        CHECK(why.file == directory / index_name);
    }
    support::write_file(directory / "config.json", "{}");
    CHECK(refused(directory / "config.json").code == sf::errc::bad_index);
}

TEST_CASE("index: a stale index reports every shard that is missing") {
    const temporary_directory directory;
    std::vector<shard> shards;
    for (int i = 1; i <= 30; ++i)
        shards.push_back({series(i, 30), {u8("t" + std::to_string(i), {2})}});
    support::write_checkpoint(directory.path(), shards);
    for (int i = 16; i <= 30; ++i) std::filesystem::remove(directory / series(i, 30));
    CHECK(refused(directory.string()).code == sf::errc::missing_shard);
    const auto report = verified(directory.string());
    REQUIRE(report.failures().size() == 15);
    for (int i = 16; i <= 30; ++i) {
        const sf::failure& why = report.failures()[static_cast<std::size_t>(i - 16)];
        CHECK(why.code == sf::errc::missing_shard);
        CHECK(why.file == directory / series(i, 30));
    }
    CHECK(report.file_count() == 15);
    CHECK(report.tensor_count() == 15);
}

TEST_CASE("series: a series with gaps names the missing files") {
    const auto detail = [](std::vector<std::string> names,
                           sf::errc code = sf::errc::incomplete_series) {
        const temporary_directory directory;
        for (const std::string& name : names)
            support::write_tensor_file(directory / name, {u8(name, {1})});
        const sf::failure why = refused(directory.string());
        CHECK(why.code == code);
        CHECK(why.file == directory.string());
        return std::string{why.detail.view()};
    };
    CHECK(detail({series(1, 3), series(3, 3)}) == "missing: model-00002-of-00003.safetensors");
    CHECK(detail({series(2, 3), series(3, 3)}) == "missing: model-00001-of-00003.safetensors");
    CHECK(detail({series(1, 3)}) ==
          "missing: model-00002-of-00003.safetensors, model-00003-of-00003.safetensors");
    CHECK(detail({"m-0-of-3.safetensors", "m-2-of-3.safetensors"}) ==
          "missing: m-1-of-3.safetensors");
    CHECK(detail({"m-0-of-2.safetensors", "m-1-of-2.safetensors", "m-2-of-2.safetensors"}) ==
          "\"m-2-of-2.safetensors\" has a number out of range");
    CHECK(detail({"m-1-of-2.safetensors", "m-01-of-2.safetensors"}) ==
          "\"m-1-of-2.safetensors\" has the same number as another file");
    CHECK(detail({"m-7-of-2.safetensors"}) == "\"m-7-of-2.safetensors\" has a number out of range");
    CHECK(detail({"m-0-of-0.safetensors"}) == "\"m-0-of-0.safetensors\" has a number out of range");
    CHECK(detail({series(1, 12), series(12, 12)}) ==
          "missing: model-00002-of-00012.safetensors, model-00003-of-00012.safetensors, "
          "model-00004-of-00012.safetensors, "
          "model-00005-of-00012.safetensors, model-00006-of-00012.safetensors, "
          "model-00007-of-00012.safetensors and 4 more");
    const std::string huge = detail({"m-1-of-999999999999999999.safetensors",
                                     "m-999999999999999999-of-999999999999999999.safetensors"});
    CHECK(huge.ends_with(" and 999,999,999,999,999,991 more"));
}

TEST_CASE("series: a gap is counted, and the present files are still verified") {
    const temporary_directory directory;
    support::write_shards(directory.path(), three_shards());
    std::filesystem::remove(directory / series(1, 3));
    support::write_file(directory / series(3, 3), "broken");
    const auto report = verified(directory.string());
    REQUIRE(report.failures().size() == 2);
    CHECK(report.failures()[0].code == sf::errc::incomplete_series);
    CHECK(report.failures()[0].expected == 3);
    CHECK(report.failures()[0].actual == 2);
    CHECK(report.failures()[1].code == sf::errc::header_too_short);
    CHECK(report.failures()[1].file == directory / series(3, 3));
    CHECK(report.tensor_count() == 2);
}

TEST_CASE("series: the same tensor in two shards names both files") {
    const temporary_directory directory;
    std::vector<shard> shards = three_shards();
    shards[2].tensors.push_back(u8("z", {4, 5}));
    shards[1].tensors.push_back(u8("a", {3}));
    support::write_shards(directory.path(), shards);
    const sf::failure why = refused(directory.string());
    CHECK(why.code == sf::errc::tensor_in_two_shards);
    CHECK(why.tensor == "a");
    CHECK(why.file == directory / series(2, 3));
    CHECK(contains(why.detail, series(1, 3)));
    const auto report = verified(directory.string());
    REQUIRE(report.failures().size() == 2);
    CHECK(report.failures()[1].tensor == "z");
    CHECK(report.failures()[1].file == directory / series(3, 3));
}

TEST_CASE("directory: files that do not belong together are refused and listed") {
    const auto detail = [](std::vector<std::string> names) {
        const temporary_directory directory;
        for (const std::string& name : names)
            support::write_tensor_file(directory / name, {u8(name, {1})});
        const sf::failure why = refused(directory.string());
        CHECK(why.code == sf::errc::no_checkpoint);
        CHECK(why.file == directory.string());
        return std::string{why.detail.view()};
    };
    CHECK(detail({}) == "there is no .safetensors file in it");
    CHECK(detail({"b.safetensors", "a.safetensors"}) ==
          "several files and no index: \"a.safetensors\" and \"b.safetensors\"");
    CHECK(detail({series(1, 2), series(2, 2), "consolidated.safetensors"})
              .find("consolidated.safetensors") != std::string::npos);
    CHECK(detail({series(1, 2), series(2, 2), series(1, 3), series(2, 3), series(3, 3)})
              .find(series(3, 3)) != std::string::npos);
    CHECK(detail({"a-1-of-2.safetensors", "b-2-of-2.safetensors"}).find("b-2-of-2") !=
          std::string::npos);
    std::vector<std::string> many;
    for (int i = 0; i < 20; ++i) many.push_back("f" + std::to_string(i) + ".safetensors");
    CHECK(detail(many).ends_with("\"f5.safetensors\" and 14 more"));
}

TEST_CASE("path: a missing path, or one that is neither file nor directory, is refused") {
    const temporary_directory directory;
    const sf::failure absent = refused(directory / "absent");
    CHECK(absent.code == sf::errc::file_not_found);
    CHECK(absent.file == directory / "absent");
    CHECK(refused("").code == sf::errc::file_not_found);
#if !defined(_WIN32)
    REQUIRE(::mkfifo((directory / "pipe").c_str(), 0600) == 0);
    CHECK(refused(directory / "pipe").code == sf::errc::not_a_file);
    REQUIRE(::mkfifo((directory / "pipe.json").c_str(), 0600) == 0);
    CHECK(refused(directory / "pipe.json").code == sf::errc::not_a_file);
    CHECK(refused("/dev/null").code == sf::errc::not_a_file);
#endif
}

TEST_CASE("options: the reference's verdict on duplicates within a file can be requested") {
    const temporary_directory directory;
    const std::string header =
        R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
    support::write_file(directory / "model.safetensors", support::framed(header, "ab"));
    CHECK(refused(directory.string()).code == sf::errc::duplicate_tensor);
    const auto set =
        sf::checkpoint::open(directory.string(), {.read = sf::read_options::reference()});
    REQUIRE(set);
    CHECK(set->find("x")->size_bytes() == 2);
    sf::checkpoint_options tight;
    tight.read.max_header_bytes = 20;
    CHECK(refused(directory.string(), tight).code == sf::errc::header_too_large);
}

TEST_CASE("verify: one report lists all problems") {
    const temporary_directory directory;
    const std::vector<shard> shards = {{"a.safetensors", {u8("good", {2}), u8("extra", {1})}},
                                       {"b.safetensors", {u8("w", {3})}},
                                       {"c.safetensors", {u8("v", {3}), u8("good", {2})}},
                                       {"unused.safetensors", {u8("u", {1})}}};
    support::write_shards(directory.path(), shards);
    const std::string b = support::read_file(directory / "b.safetensors");
    support::write_file(directory / "b.safetensors", b.substr(0, b.size() - 2));
    support::write_file(directory / index_name, R"({"metadata": {"total_size": 1}, "weight_map": {
        "good": "a.safetensors", "gone": "a.safetensors", "w": "b.safetensors",
        "v": "c.safetensors", "missing": "d.safetensors", "out": "../e.safetensors",
        "good": "c.safetensors", "number": 3}})");
    const auto report = verified(directory.string());
    std::multiset<std::string> failures;
    for (const sf::failure& each : report.failures()) {
        CHECK(!each.file.empty());
        failures.insert(std::string{sf::sentence(each.code)} + " " +
                        support::path_of(each.file.view()).filename().string() + " " +
                        std::string{each.tensor.view()});
    }
    const auto line = [](sf::errc code, std::string_view file, std::string_view tensor) {
        return std::string{sf::sentence(code)} + " " + std::string{file} + " " +
               std::string{tensor};
    };
    CHECK(failures ==
          std::multiset<std::string>{line(sf::errc::path_leaves_directory, index_name, "out"),
                                     line(sf::errc::bad_index, index_name, "good"),
                                     line(sf::errc::bad_index, index_name, "number"),
                                     line(sf::errc::tensor_not_in_shard, "a.safetensors", "gone"),
                                     line(sf::errc::data_truncated, "b.safetensors", ""),
                                     line(sf::errc::missing_shard, "d.safetensors", "missing")});
    REQUIRE(report.notes().size() == 3);
    CHECK(report.notes()[0].what == note_kind::unlisted_tensors);
    CHECK(report.notes()[0].tensor == "extra");
    CHECK(report.notes()[1].what == note_kind::superseded_tensors);
    CHECK(report.notes()[1].tensor == "good");
    CHECK(report.notes()[2].what == note_kind::unused_file);
    CHECK(report.notes()[2].file == directory / "unused.safetensors");
    CHECK(report.file_count() == 2);
    CHECK(report.tensor_count() == 2);
    for (const sf::checkpoint_note& each : report.notes()) CHECK(!each.message().empty());
}

#if !defined(_WIN32)
TEST_CASE("checkpoint: a shard truncated while it is open is file_changed") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto set = sf::positional_checkpoint::open(directory.string());
    REQUIRE(set);
    const auto place = set->place(set->index_of("b"));
    std::filesystem::resize_file(directory / series(2, 3), place.offset + 3);
    std::string out(24, '?');
    const auto by_name = set->read("b", writable(out));
    REQUIRE(!by_name);
    CHECK(by_name.error().code == sf::errc::file_changed);
    CHECK(by_name.error().file == directory / series(2, 3));
    CHECK(by_name.error().tensor == "b");
    const auto by_place = set->read(place.source, place.offset, writable(out));
    REQUIRE(!by_place);
    CHECK(by_place.error().code == sf::errc::file_changed);
    CHECK(set->read("z", std::span<std::byte>{}).error().code == sf::errc::wrong_buffer_size);
}
#endif

TEST_CASE("checkpoint: one descriptor for each file while it is open, closed with it") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const std::size_t before = support::open_descriptors();
    {
        const auto set = sf::checkpoint::open(directory.string());
        REQUIRE(set);
        if (before != 0) CHECK(support::open_descriptors() == before + 3);
    }
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("checkpoint: many threads look up and read at once") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto set = sf::positional_checkpoint::open(directory.string());
    REQUIRE(set);
    std::array<int, 4> right{};
    std::vector<std::thread> threads;
    for (int& count : right)
        threads.emplace_back([&] {
            for (int round = 0; round < 200; ++round)
                for (const shard& each : three_shards())
                    for (const support::tensor& held : each.tensors) {
                        std::string out(held.data.size(), '?');
                        count += set->read(held.name, writable(out)) && out == held.data;
                    }
        });
    for (std::thread& each : threads) each.join();
    for (const int count : right) CHECK(count == 200 * 6);
}

TEST_CASE("checkpoint: works as a tensor set through tensor_set_ref") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto set = sf::checkpoint::open(directory.string());
    REQUIRE(set);
    const sf::tensor_set_ref ref{*set};
    CHECK(ref.size() == 6);
    const std::size_t i = set->index_of("m");
    CHECK(ref.spec(i).name == "m");
    const auto place = ref.place(i);
    std::string out(4, '?');
    REQUIRE(ref.read(place.source, place.offset, writable(out)));
    CHECK(out == three_shards()[1].tensors[0].data);
    ref.advise(place.source, place.offset, place.size_bytes, sf::advice::done_with);
}

// ---- from files that the caller opened

namespace {

/// Bytes as a server would send them: they must be asked for.
class remote_source {
public:
    explicit remote_source(std::string bytes) : bytes_{std::move(bytes)} {}
    std::uint64_t size_bytes() const noexcept { return bytes_.size(); }
    std::span<const std::byte> bytes() const noexcept { return {}; }
    sf::result<void> read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
        return sf::memory_source{support::bytes_of(bytes_)}.read(offset, out);
    }
    void advise(std::uint64_t, std::uint64_t, sf::advice) const noexcept {}

private:
    std::string bytes_;
};
using remote_file = sf::basic_tensor_file<remote_source>;
using remote_checkpoint = sf::basic_checkpoint<remote_source>;

remote_file remote(const std::string& path, const std::vector<support::tensor>& tensors) {
    auto file = remote_file::from(remote_source{support::tensor_file_bytes(tensors)}, path);
    REQUIRE(file);
    return *std::move(file);
}

std::vector<remote_file> remote_files(const std::vector<shard>& shards,
                                      const std::string& folder = "https://host/model/") {
    std::vector<remote_file> files;
    for (const shard& each : shards) files.push_back(remote(folder + each.file, each.tensors));
    return files;
}

sf::failure refused_files(const std::string& json, std::vector<remote_file> files,
                          const sf::checkpoint_options& options = {}) {
    const auto index = sf::shard_index::parse(support::bytes_of(json));
    REQUIRE(index);
    auto made = remote_checkpoint::from(*index, std::move(files), options);
    REQUIRE(!made);
    return std::move(made).error();
}

}  // namespace

TEST_CASE("from: sources of the caller and a parsed index make the checkpoint that open makes") {
    const temporary_directory directory;
    support::write_checkpoint(directory.path(), three_shards());
    const auto local = sf::checkpoint::open(directory.string());
    REQUIRE(local);
    auto made = [] {  // index and list may go
        const std::string json = support::index_text(three_shards());
        const auto index = sf::shard_index::parse(support::bytes_of(json));
        REQUIRE(index);
        auto files = remote_files(three_shards());
        std::swap(files[0], files[2]);  // the order of the list does not count
        return remote_checkpoint::from(*index, std::move(files));
    }();
    REQUIRE(made);
    const auto checkpoint = *std::move(made);
    CHECK(checkpoint.index_path().empty());
    CHECK(checkpoint.file_count() == 3);
    REQUIRE(checkpoint.size() == local->size());
    for (std::size_t i = 0; i < local->size(); ++i) {
        const sf::tensor_spec spec = local->spec(i);
        CHECK(checkpoint.spec(i).name == spec.name);
        CHECK(checkpoint.spec(i).type == spec.type);
        CHECK(checkpoint.index_of(spec.name) == i);
        CHECK(checkpoint.place(i).source == local->place(i).source);
        CHECK(checkpoint.place(i).offset == local->place(i).offset);
        const std::string_view name = checkpoint.source_name(checkpoint.place(i).source);
        CHECK(name.starts_with("https://host/model/"));
        CHECK(local->source_name(local->place(i).source).ends_with(name.substr(19)));
        std::string out(checkpoint.place(i).size_bytes, '?');
        REQUIRE(checkpoint.read(i, writable(out)));
        CHECK(out == string_of(local->view(i)->bytes()));
    }
    CHECK(checkpoint.find("a").error().code == sf::errc::not_resident);
    CHECK(checkpoint.read("absent", {}).error().code == sf::errc::tensor_not_found);
    CHECK(sf::tensor_set_ref{checkpoint}.native_handle(0) == sf::no_native_handle);
}

TEST_CASE(
    "from: mapped files, positional files and the caller's own sources can form one checkpoint") {
    const temporary_directory directory;
    const std::vector<shard> shards = three_shards();
    support::write_checkpoint(directory.path(), shards);
    const std::string json = support::index_text(shards);
    const auto index = sf::shard_index::parse(support::bytes_of(json));
    REQUIRE(index);
    std::vector<sf::any_tensor_file> files;
    files.push_back(*sf::any_tensor_file::from(*sf::tensor_file::open(directory / shards[0].file)));
    files.push_back(
        *sf::any_tensor_file::from(*sf::positional_tensor_file::open(directory / shards[1].file)));
    files.push_back(*sf::any_tensor_file::from(remote(shards[2].file, shards[2].tensors)));
    const auto checkpoint = sf::any_checkpoint::from(*index, std::move(files));
    REQUIRE(checkpoint);
    REQUIRE(checkpoint->size() == 6);
    for (const shard& each : shards)
        for (const support::tensor& tensor : each.tensors) {
            std::string out(tensor.data.size(), '?');
            REQUIRE(checkpoint->read(tensor.name, writable(out)));
            CHECK(out == tensor.data);
        }
    CHECK(checkpoint->find("z"));
    CHECK(checkpoint->find("m").error().code == sf::errc::not_resident);
}

TEST_CASE("from: the cross-checks are those of open") {
    const std::vector<shard> shards = three_shards();
    const std::string json = support::index_text(shards);
    {
        auto files = remote_files(shards);
        files.erase(files.begin() + 1);
        const sf::failure why = refused_files(json, std::move(files));
        CHECK(why.code == sf::errc::missing_shard);
        CHECK(why.file == shards[1].file);
        CHECK(why.tensor == "m");
        CHECK(contains(why.message(), "no file in the list has that name"));
    }
    {
        auto lacking = shards;
        lacking[1].tensors.pop_back();
        const sf::failure why = refused_files(json, remote_files(lacking));
        CHECK(why.code == sf::errc::tensor_not_in_shard);
        CHECK(why.file == "https://host/model/" + shards[1].file);
        CHECK(why.tensor == "b");
    }
    {  // the end of a name is no name
        const sf::failure why = refused_files(json, remote_files(shards, "https://host/my-"));
        CHECK(why.code == sf::errc::missing_shard);
        CHECK(why.file == shards[0].file);
    }
    {  // two files may be meant
        auto files = remote_files(shards);
        files.push_back(remote("elsewhere\\" + shards[0].file, shards[0].tensors));
        const sf::failure why = refused_files(json, std::move(files));
        CHECK(why.code == sf::errc::tensor_in_two_shards);
        CHECK(why.file == "elsewhere\\" + shards[0].file);
        CHECK(contains(why.message(), "https://host/model/" + shards[0].file));
    }
    {  // the one that has exactly the index's name goes first
        auto files = remote_files(shards);
        files.push_back(remote("b/" + shards[0].file, shards[0].tensors));
        files.push_back(remote(shards[0].file, shards[0].tensors));
        const auto index = sf::shard_index::parse(support::bytes_of(json));
        const auto made = remote_checkpoint::from(*index, std::move(files));
        REQUIRE(made);
        CHECK(made->source_name(0) == shards[0].file);
    }
}

TEST_CASE("from: unlisted tensors are visible, unless the options hide them") {
    std::vector<shard> shards = three_shards();
    const std::string json = support::index_text(shards);
    const auto index = sf::shard_index::parse(support::bytes_of(json));
    REQUIRE(index);
    shards[0].tensors.push_back(u8("extra", {7}));
    auto files = remote_files(shards);
    files.push_back(remote("other.safetensors", {u8("other", {1})}));
    const auto listed = remote_checkpoint::from(*index, std::move(files), {.show_unlisted = false});
    REQUIRE(listed);
    CHECK(listed->size() == 6);
    CHECK(listed->unlisted_count() == 1);
    CHECK(listed->index_of("extra") == remote_checkpoint::npos);
    const auto shown = remote_checkpoint::from(*index, remote_files(shards));
    REQUIRE(shown);
    CHECK(shown->size() == 7);
    CHECK(shown->index_of("extra") != remote_checkpoint::npos);
    CHECK(shown->index_of("other") == remote_checkpoint::npos);
}

TEST_CASE(
    "from: without an index all tensors of all files are visible, and no name may be duplicate") {
    std::vector<shard> shards = three_shards();
    const auto made = remote_checkpoint::from(remote_files(shards));
    REQUIRE(made);
    CHECK(made->size() == 6);
    CHECK(made->file_count() == 3);
    std::string out(4, '?');
    REQUIRE(made->read("m", writable(out)));
    CHECK(out == shards[1].tensors[0].data);

    shards[2].tensors.push_back(u8("a", {3}));
    const auto twice = remote_checkpoint::from(remote_files(shards));
    REQUIRE(!twice);
    CHECK(twice.error().code == sf::errc::tensor_in_two_shards);
    CHECK(twice.error().tensor == "a");
    const auto none = remote_checkpoint::from(std::vector<remote_file>{});
    REQUIRE(!none);
    CHECK(none.error().code == sf::errc::no_checkpoint);
}
