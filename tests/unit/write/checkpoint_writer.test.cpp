#include <safefuse/write/checkpoint_writer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <type_traits>

#include <safefuse/read/checkpoint.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::bytes_of;
using support::read_file;
using support::string_of;
using support::temporary_directory;
using support::write_file;

static_assert(!std::is_copy_constructible_v<sf::checkpoint_writer> &&
              std::is_nothrow_move_constructible_v<sf::checkpoint_writer>);

namespace {

std::vector<std::string> names_in(const temporary_directory& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{directory.path()})
        names.insert(entry.path().filename().string());
    return {names.begin(), names.end()};
}

std::vector<sf::tensor_spec> specs_of(const std::vector<support::tensor>& tensors) {
    std::vector<sf::tensor_spec> specs;
    for (const support::tensor& each : tensors)
        specs.push_back(
            {each.name, each.type == "U8" ? sf::dtype::u8 : sf::dtype::bf16, each.shape});
    return specs;
}

constexpr sf::write_options eight_bytes{.max_shard_bytes = 8, .wait = sf::durability::renamed};

/// The rules of huggingface_hub's split_state_dict_into_shards_factory: a list of open and closed
/// shards.
std::vector<std::vector<std::size_t>> split_as_huggingface_hub_does(
    const std::vector<std::uint64_t>& sizes, std::uint64_t most) {
    std::vector<std::vector<std::size_t>> shards;
    std::vector<std::size_t> current;
    std::uint64_t current_bytes = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] > most) {
            shards.push_back({i});
            continue;
        }
        if (current_bytes + sizes[i] > most) {
            shards.push_back(current);
            current.clear();
            current_bytes = 0;
        }
        current.push_back(i);
        current_bytes += sizes[i];
    }
    if (!current.empty()) shards.push_back(current);
    return shards;
}

struct byte_tensors {
    std::vector<std::string> names;
    std::vector<std::uint64_t> sizes;
    std::vector<sf::tensor_spec> specs;

    explicit byte_tensors(std::vector<std::uint64_t> bytes) : sizes{std::move(bytes)} {
        for (std::size_t i = 0; i < sizes.size(); ++i) names.push_back("t" + std::to_string(i));
        for (std::size_t i = 0; i < sizes.size(); ++i)
            specs.push_back({names[i], sf::dtype::u8, {&sizes[i], 1}});
    }
};

void check_split(const byte_tensors& tensors, std::uint64_t most) {
    const auto expected = split_as_huggingface_hub_does(tensors.sizes, most);
    const auto split = sf::split_into_shards(tensors.specs, most);
    REQUIRE(split);
    CHECK(split->shard_count == expected.size());
    REQUIRE(split->shard_of.size() == tensors.sizes.size());
    for (std::size_t shard = 0; shard < expected.size(); ++shard)
        for (const std::size_t i : expected[shard]) CHECK(split->shard_of[i] == shard);
}

}  // namespace

TEST_CASE("split: follows huggingface_hub's rules") {
    check_split(byte_tensors{{}}, 10);
    check_split(byte_tensors{{10}}, 10);  // exactly the limit
    check_split(byte_tensors{{5, 5, 1}}, 10);
    check_split(byte_tensors{{11}}, 10);  // over the limit
    // the large tensor is numbered before the open shard
    check_split(byte_tensors{{3, 11, 3}}, 10);
    check_split(byte_tensors{{3, 11, 3, 12, 5}}, 10);
    check_split(byte_tensors{{0, 0, 0}}, 10);
    check_split(byte_tensors{{10, 0, 0, 10, 0}}, 10);  // empty tensors always fit
    check_split(byte_tensors{{1, 0, 2, 0}}, 0);
    check_split(byte_tensors{{6, 6, 2, 6, 2, 2}}, 10);
    check_split(byte_tensors{{1, 2, 3}}, ~std::uint64_t{0} / 2);

    const byte_tensors overtaken{{3, 11, 3}};
    const auto split = sf::split_into_shards(overtaken.specs, 10);
    REQUIRE(split);
    CHECK(split->shard_of[0] == 1);
    CHECK(split->shard_of[1] == 0);
    CHECK(split->shard_of[2] == 1);
}

TEST_CASE("split: follows huggingface_hub's rules on random sizes") {
    std::mt19937 random{5};
    for (int round = 0; round < 500; ++round) {
        std::vector<std::uint64_t> sizes(random() % 40);
        const std::uint64_t most = random() % 100;
        for (std::uint64_t& size : sizes) {
            const std::uint64_t kind = random() % 10;
            size = kind == 0 ? 0 : kind == 1 ? most : kind == 2 ? most + 1 : random() % (most + 20);
        }
        check_split(byte_tensors{sizes}, most);
    }
}

TEST_CASE("split: sums of sizes do not overflow, and sizes that do are refused") {
    const std::uint64_t half = std::uint64_t{1} << 60;
    const byte_tensors large{{half, half, half, half, half, half, half, half, half, half, half,
                              half, half, half, half, half, half}};
    const auto split = sf::split_into_shards(large.specs, ~std::uint64_t{0});
    REQUIRE(split);
    CHECK(split->shard_count == 2);
    CHECK(split->shard_of[14] == 0);
    CHECK(split->shard_of[15] == 1);

    const std::vector<std::uint64_t> huge{std::uint64_t{1} << 62, 4}, odd{3};
    const sf::tensor_spec overflowing[] = {{"a", sf::dtype::f32, huge}};
    CHECK(sf::split_into_shards(overflowing, 10).error().code == sf::errc::size_overflow);
    const sf::tensor_spec cut[] = {{"a", sf::dtype::f4, odd}};
    CHECK(sf::split_into_shards(cut, 10).error().code == sf::errc::partial_byte);
    CHECK(sf::split_into_shards(cut, 10).error().tensor == "a");

    const sf::write_options each_alone{.max_shard_bytes = sf::one_tensor_per_file};
    const auto fits = sf::checkpoint_outline::make(std::span{large.specs}.first(15), each_alone);
    REQUIRE(fits);
    CHECK(fits->index().has_value());
    const auto wraps = sf::checkpoint_outline::make(large.specs, each_alone);
    REQUIRE(wraps);
    CHECK(wraps->index().error().code == sf::errc::size_overflow);
}

namespace {

/// Writes a checkpoint through checkpoint_writer, tensor by tensor.
sf::result<void> write_all(const std::string& directory,
                           const std::vector<support::tensor>& tensors, std::uint64_t most) {
    const auto specs = specs_of(tensors);
    auto writer = sf::checkpoint_writer::create(
        directory, specs, {.max_shard_bytes = most, .wait = sf::durability::renamed});
    if (!writer) return writer.error();
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        auto file = writer->open_shard(shard);
        if (!file) return file.error();
        std::size_t number = 0;
        for (std::size_t i = 0; i < tensors.size(); ++i)
            if (writer->shard_of(i) == shard)
                if (auto done = file->write(number++, 0, bytes_of(tensors[i].data)); !done)
                    return done;
        if (auto done = file->commit(sf::durability::renamed); !done) return done;
    }
    return writer->finish();
}

}  // namespace

TEST_CASE("checkpoint writer: any split reads back as the same tensors, with a sound index") {
    std::mt19937 random{6};
    std::vector<support::tensor> tensors;
    for (int i = 0; i < 50; ++i) {
        const std::string name = "layers." + std::to_string(i);
        const std::uint64_t rows = random() % 7, columns = 1 + random() % 6;
        tensors.push_back(random() % 2 == 0 ? support::u8(name, {rows, columns})
                                            : support::bf16(name, {rows, columns}));
    }
    const std::uint64_t total = std::accumulate(
        tensors.begin(), tensors.end(), std::uint64_t{0},
        [](std::uint64_t sum, const support::tensor& each) { return sum + each.data.size(); });
    for (const std::uint64_t most : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{333},
                                     std::uint64_t{1000}, total - 1, total, total + 1}) {
        CAPTURE(most);
        const temporary_directory directory;
        REQUIRE(write_all(directory / "out", tensors, most));
        const auto checkpoint = sf::checkpoint::open(directory / "out");
        REQUIRE(checkpoint);
        REQUIRE(checkpoint->size() == tensors.size());
        CHECK(checkpoint->index_path().empty() == (most >= total));
        for (const support::tensor& each : tensors) {
            const auto view = checkpoint->find(each.name);
            REQUIRE(view);
            CHECK(sf::name(view->type()) == each.type);
            CHECK(string_of(view->bytes()) == each.data);
        }
        const auto report = sf::checkpoint::verify(directory / "out");
        REQUIRE(report);
        CHECK(report->is_sound());
        CHECK(report->notes().empty());  // not even about total_size
        CHECK(report->tensor_bytes() == total);
        if (most >= total)
            CHECK(std::filesystem::exists(directory.path() / "out" / "model.safetensors"));
    }
}

TEST_CASE("checkpoint writer: shards and index are named and written as huggingface_hub does") {
    const temporary_directory directory;
    REQUIRE(write_all(directory.string(),
                      {support::u8("b", {3}), support::u8("a", {11}), support::u8("c", {3})}, 10));
    CHECK(names_in(directory) == std::vector<std::string>{"model-00001-of-00002.safetensors",
                                                          "model-00002-of-00002.safetensors",
                                                          "model.safetensors.index.json"});
    CHECK(read_file(directory / "model.safetensors.index.json") ==
          "{\n  \"metadata\": {\n    \"total_size\": 17\n  },\n  \"weight_map\": {\n"
          "    \"a\": \"model-00001-of-00002.safetensors\",\n    \"b\": "
          "\"model-00002-of-00002.safetensors\",\n    \"c\": \"model-00002-of-00002.safetensors\"\n"
          "  }\n}\n");

    const temporary_directory whole;
    REQUIRE(write_all(whole.string(), {support::u8("b", {3})}, 3));
    CHECK(names_in(whole) == std::vector<std::string>{"model.safetensors"});

    const temporary_directory empty;
    REQUIRE(write_all(empty / "out", {}, 3));
    CHECK(sf::checkpoint::open(empty / "out").value().size() == 0);
}

TEST_CASE(
    "checkpoint writer: before the index is written, the directory is no checkpoint or a "
    "complete one") {
    const temporary_directory directory;
    const std::vector<support::tensor> tensors{support::u8("a", {8}), support::u8("b", {8}),
                                               support::u8("c", {8})};
    const auto specs = specs_of(tensors);
    auto writer = sf::checkpoint_writer::create(directory.string(), specs, eight_bytes);
    REQUIRE(writer);
    REQUIRE(writer->shard_count() == 3);
    for (std::uint32_t shard = 0; shard < 3; ++shard) {
        const auto early = sf::checkpoint::open(directory.string());
        REQUIRE(!early);
        CHECK((early.error().code == sf::errc::no_checkpoint ||
               early.error().code == sf::errc::incomplete_series));
        auto file = writer->open_shard(shard);
        REQUIRE(file);
        REQUIRE(file->write(0, 0, bytes_of(tensors[shard].data)));
        REQUIRE(file->commit(sf::durability::renamed));
    }
    CHECK(sf::checkpoint::open(directory.string()).value().size() == 3);
    REQUIRE(writer->finish());
    const auto finished = sf::checkpoint::open(directory.string());
    REQUIRE(finished);
    CHECK(!finished->index_path().empty());
}

TEST_CASE(
    "checkpoint writer: what cannot become a checkpoint is refused before anything is written") {
    const temporary_directory directory;
    const std::vector<std::uint64_t> eight{8};
    const sf::tensor_spec twice[] = {
        {"a", sf::dtype::u8, eight}, {"b", sf::dtype::u8, eight}, {"a", sf::dtype::u8, eight}};
    const auto duplicate = sf::checkpoint_writer::create(directory / "out", twice, eight_bytes);
    REQUIRE(!duplicate);
    CHECK(duplicate.error().code == sf::errc::duplicate_tensor);
    CHECK(duplicate.error().tensor == "a");
    CHECK(names_in(directory).empty());

    write_file(directory / "file", "x");
    CHECK(sf::checkpoint_writer::create(directory / "file", {}).error().code ==
          sf::errc::not_a_directory);
    CHECK(sf::checkpoint_writer::create(directory / "file/out", {}).error().code ==
          sf::errc::not_a_directory);
    CHECK(sf::checkpoint_writer::create(directory / "absent/out", {}).error().code ==
          sf::errc::file_not_found);
    CHECK(!sf::checkpoint_writer::create("", {}));
    CHECK(names_in(directory) == std::vector<std::string>{"file"});
}

TEST_CASE(
    "checkpoint writer: a directory with tensor files or an index is refused, other files are "
    "allowed") {
    for (const char* old : {"model.safetensors", "model-00001-of-00002.safetensors",
                            "other.safetensors", "model.safetensors.index.json"}) {
        CAPTURE(old);
        const temporary_directory directory;
        write_file(directory / old, "old");
        const auto refused = sf::checkpoint_writer::create(directory.string(), {});
        REQUIRE(!refused);
        CHECK(refused.error().code == sf::errc::destination_not_empty);
        CHECK(refused.error().file == directory.string());
        CHECK(refused.error().message().view().find(old) != std::string_view::npos);
        CHECK(read_file(directory / old) == "old");
    }
    const temporary_directory directory;
    for (const char* other :
         {"config.json", "tokenizer.json", ".model.safetensors.0.tmp", "model.safetensors.txt"})
        write_file(directory / other, "x");
    std::filesystem::create_directory(directory.path() / "d.safetensors");
    CHECK(sf::checkpoint_writer::create(directory.string(), {}));
}
