#include <safefuse/writer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <type_traits>

#include <safefuse/checkpoint.hpp>
#include <safefuse/tensor_file.hpp>

#include "support.hpp"

namespace sf = safefuse;
using support::bytes_of;
using support::read_file;
using support::string_of;
using support::temporary_directory;
using support::write_file;

static_assert(!std::is_copy_constructible_v<sf::tensor_file_writer> && std::is_nothrow_move_constructible_v<sf::tensor_file_writer>);
static_assert(std::is_nothrow_move_constructible_v<sf::checkpoint_writer>);

namespace {

using shape = std::vector<std::uint64_t>;

std::vector<std::string> names_in(const temporary_directory& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{directory.path()}) names.insert(entry.path().filename().string());
    return {names.begin(), names.end()};
}

struct owned_tensor {
    std::string name;
    sf::dtype type;
    shape extents;
    std::string data;
};

owned_tensor make_tensor(std::string name, sf::dtype type, shape extents) {
    std::uint64_t size_bytes = 0;
    REQUIRE(sf::tensor_size(type, extents, size_bytes) == sf::size_verdict::fits);
    std::string data = support::pattern(name, static_cast<std::size_t>(size_bytes));
    return {std::move(name), type, std::move(extents), std::move(data)};
}

std::vector<sf::named_tensor> views_of(const std::vector<owned_tensor>& tensors) {
    std::vector<sf::named_tensor> views;
    for (const owned_tensor& each : tensors) views.push_back({each.name, sf::tensor_view::of(each.type, each.extents, bytes_of(each.data)).value()});
    return views;
}
std::vector<sf::tensor_spec> specs_of(const std::vector<owned_tensor>& tensors) {
    std::vector<sf::tensor_spec> specs;
    for (const owned_tensor& each : tensors) specs.push_back({each.name, each.type, each.extents});
    return specs;
}

void check_same(const std::vector<owned_tensor>& tensors, const sf::tensor_file& file) {
    REQUIRE(file.size() == tensors.size());
    for (const owned_tensor& each : tensors) {
        CAPTURE(each.name);
        const auto view = file.find(each.name);
        REQUIRE(view);
        CHECK(view->type() == each.type);
        CHECK(shape{view->shape().begin(), view->shape().end()} == each.extents);
        CHECK(string_of(view->bytes()) == each.data);
    }
}

/// Tensors of all dtypes, any rank, some without elements.
std::vector<owned_tensor> random_tensors(std::mt19937& random, std::size_t count) {
    std::vector<owned_tensor> tensors;
    const auto below = [&](std::uint32_t end) { return static_cast<std::uint32_t>(random() % end); };
    for (std::size_t i = 0; i < count; ++i) {
        const auto type = static_cast<sf::dtype>(below(sf::dtype_count));
        shape extents(below(5));
        for (std::uint64_t& extent : extents) extent = below(8) == 0 ? 0 : 1 + below(6);
        if (sf::bits(type) < 8) extents.push_back(4 * (1 + below(3)));
        std::string name = "t." + std::to_string(below(1000)) + '.' + std::to_string(i);
        if (below(4) == 0) name += "\"\\\n\t\x01/\xC3\xA9\xF0\x9F\x98\x80 ";
        tensors.push_back(make_tensor(std::move(name), type, std::move(extents)));
    }
    return tensors;
}

/// huggingface_hub's rules, as its split_state_dict_into_shards_factory has them: a list of open and closed shards.
std::vector<std::vector<std::size_t>> split_as_huggingface_hub_does(const std::vector<std::uint64_t>& sizes, std::uint64_t most) {
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
        for (std::size_t i = 0; i < sizes.size(); ++i) specs.push_back({names[i], sf::dtype::u8, {&sizes[i], 1}});
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

TEST_CASE("writer: the reference's own test vector comes out byte for byte") {
    const temporary_directory directory;
    std::string data(24, '\0');
    for (std::size_t i = 0; i < 6; ++i) {
        const float value = static_cast<float>(i);
        std::memcpy(data.data() + i * 4, &value, 4);
    }
    const shape extents{1, 2, 3};
    const sf::named_tensor tensors[] = {{"attn.0", sf::tensor_view::of(sf::dtype::f32, extents, bytes_of(data)).value()}};
    REQUIRE(sf::write_tensor_file(directory / "a.safetensors", tensors, {}));
    CHECK(read_file(directory / "a.safetensors") ==
          std::string("\x40\0\0\0\0\0\0\0", 8) + R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})" + data);
}

TEST_CASE("writer: no tensors and no metadata make the reference's empty file") {
    const temporary_directory directory;
    REQUIRE(sf::write_tensor_file(directory / "a.safetensors", {}, {}));
    CHECK(read_file(directory / "a.safetensors") == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
    REQUIRE(sf::write_tensor_file(directory / "b.safetensors", {}));
    const std::string file = read_file(directory / "b.safetensors");
    CHECK(file.substr(8) == R"({"__metadata__":{"format":"pt"}})");
    CHECK(sf::tensor_file::open(directory / "b.safetensors").value().size() == 0);
}

TEST_CASE("writer: what is written is read back, whatever dtypes, ranks and names") {
    const temporary_directory directory;
    std::mt19937 random{1};
    for (std::size_t round = 0; round < 60; ++round) {
        const auto tensors = random_tensors(random, round);
        const auto path = directory / "a.safetensors";
        REQUIRE(sf::write_tensor_file(path, views_of(tensors)));
        const auto file = sf::tensor_file::open(path);
        REQUIRE(file);
        check_same(tensors, *file);
        std::string_view format;
        CHECK((file->header().find_metadata("format", format) && format == "pt"));
        CHECK(file->header().header_bytes() % 8 == 0);
        // the reference's order: dtypes descending, then names; so every tensor is aligned to its elements
        for (std::size_t i = 0; i < file->size(); ++i) {
            const sf::tensor_entry entry = (*file)[i];
            const std::uint64_t align = sf::bits(entry.type) < 8 ? 1 : sf::bits(entry.type) / 8;
            CHECK(file->offset_bytes(i) % align == 0);
            if (i == 0) continue;
            const sf::tensor_entry before = (*file)[i - 1];
            // tensors without bytes may share an offset; a reader may then have them in any order
            if (before.size_bytes() != 0 && entry.size_bytes() != 0)
                CHECK((before.type > entry.type || (before.type == entry.type && before.name < entry.name)));
        }
    }
}

TEST_CASE("writer: the order of the tensors given does not change the file") {
    const temporary_directory directory;
    std::mt19937 random{2};
    auto tensors = random_tensors(random, 40);
    REQUIRE(sf::write_tensor_file(directory / "a", views_of(tensors)));
    const std::string file = read_file(directory / "a");
    for (int round = 0; round < 5; ++round) {
        std::shuffle(tensors.begin(), tensors.end(), random);
        REQUIRE(sf::write_tensor_file(directory / "b", views_of(tensors)));
        CHECK(read_file(directory / "b") == file);
    }
}

TEST_CASE("writer: metadata stands first, sorted by key; without entries it is absent") {
    const temporary_directory directory;
    const sf::metadata_entry metadata[] = {{"zeta", "1"}, {"format", "pt"}, {"Alpha", "\"\n\xC3\xA9"}, {"", ""}};
    REQUIRE(sf::write_tensor_file(directory / "a", {}, metadata));
    CHECK(read_file(directory / "a").substr(8).starts_with("{\"__metadata__\":{\"\":\"\",\"Alpha\":\"\\\"\\n\xC3\xA9\",\"format\":\"pt\",\"zeta\":\"1\"}}"));
    const auto file = sf::tensor_file::open(directory / "a");
    REQUIRE(file);
    CHECK(file->header().metadata_size() == 4);
    REQUIRE(sf::write_tensor_file(directory / "b", {}, {}));
    CHECK(!sf::tensor_file::open(directory / "b").value().header().has_metadata());

    const sf::metadata_entry twice[] = {{"a", "1"}, {"a", "2"}};
    const auto refused = sf::write_tensor_file(directory / "c", {}, twice);
    REQUIRE(!refused);
    CHECK(refused.error().code == sf::errc::bad_name);
    const sf::metadata_entry garbled[] = {{"a", "\xFF"}};
    CHECK(sf::write_tensor_file(directory / "c", {}, garbled).error().code == sf::errc::bad_name);
    CHECK(names_in(directory) == std::vector<std::string>{"a", "b"});
}

TEST_CASE("writer: tensors that no reader would take are refused, and the old file stays") {
    const temporary_directory directory;
    write_file(directory / "a", "old");
    const shape none{0}, huge{1ull << 62, 4}, three{3};
    const auto code_of = [&](std::vector<sf::tensor_spec> specs) {
        auto writer = sf::tensor_file_writer::create(directory / "a", specs);
        REQUIRE(!writer);
        CHECK(writer.error().file == directory / "a");
        return writer.error().code;
    };
    CHECK(code_of({{"__metadata__", sf::dtype::u8, none}}) == sf::errc::bad_name);
    CHECK(code_of({{"a\xFF", sf::dtype::u8, none}}) == sf::errc::bad_name);
    CHECK(code_of({{"\xED\xA0\x80", sf::dtype::u8, none}}) == sf::errc::bad_name);
    CHECK(code_of({{"a", sf::dtype::u8, none}, {"b", sf::dtype::u8, none}, {"a", sf::dtype::f32, none}}) == sf::errc::duplicate_tensor);
    CHECK(code_of({{"a", sf::dtype::f32, huge}}) == sf::errc::size_overflow);
    CHECK(code_of({{"a", sf::dtype::f4, three}}) == sf::errc::partial_byte);
    CHECK(code_of({{"a", sf::dtype::f4, {}}}) == sf::errc::partial_byte);
    CHECK(read_file(directory / "a") == "old");
    CHECK(names_in(directory) == std::vector<std::string>{"a"});
}

TEST_CASE("writer: bytes come in any order and any pieces; what never comes is zero") {
    const temporary_directory directory;
    std::mt19937 random{3};
    const auto tensors = random_tensors(random, 30);
    auto writer = sf::tensor_file_writer::create(directory / "a", specs_of(tensors));
    REQUIRE(writer);
    struct piece {
        std::size_t tensor;
        std::size_t first, count;
    };
    std::vector<piece> pieces;
    for (std::size_t t = 0; t < tensors.size(); ++t)
        for (std::size_t done = 0; done < tensors[t].data.size();) {
            const std::size_t count = std::min<std::size_t>(1 + random() % 100, tensors[t].data.size() - done);
            pieces.push_back({t, done, count});
            done += count;
        }
    std::shuffle(pieces.begin(), pieces.end(), random);
    for (const piece& each : pieces)
        REQUIRE(writer->write(each.tensor, each.first, bytes_of(tensors[each.tensor].data).subspan(each.first, each.count)));
    REQUIRE(writer->commit());
    check_same(tensors, sf::tensor_file::open(directory / "a").value());
    REQUIRE(sf::write_tensor_file(directory / "b", views_of(tensors)));
    CHECK(read_file(directory / "a") == read_file(directory / "b"));

    auto empty = sf::tensor_file_writer::create(directory / "c", specs_of(tensors));
    REQUIRE(empty);
    CHECK(empty->file_bytes() == read_file(directory / "a").size());
    REQUIRE(empty->commit(sf::durability::renamed));
    const auto zeros = sf::tensor_file::open(directory / "c");
    REQUIRE(zeros);
    for (std::size_t i = 0; i < zeros->size(); ++i)
        for (const std::byte each : zeros->view(i)->bytes()) REQUIRE(each == std::byte{0});
}

TEST_CASE("writer: a write outside its tensor is refused and changes nothing") {
    const temporary_directory directory;
    const shape four{4}, none{0};
    const sf::tensor_spec specs[] = {{"a", sf::dtype::u8, four}, {"b", sf::dtype::u8, four}, {"c", sf::dtype::u8, none}};
    auto writer = sf::tensor_file_writer::create(directory / "x", specs);
    REQUIRE(writer);
    const std::string data = "12345";
    const auto refused = [&](std::size_t i, std::uint64_t offset, std::size_t count) {
        const auto done = writer->write(i, offset, bytes_of(data).first(count));
        return !done && done.error().code == sf::errc::out_of_range && done.error().file == directory / "x";
    };
    CHECK(refused(0, 0, 5));
    CHECK(refused(0, 1, 4));
    CHECK(refused(0, 4, 1));
    CHECK(refused(0, 5, 0));
    CHECK(refused(0, ~std::uint64_t{0}, 1));
    CHECK(refused(0, ~std::uint64_t{0} - 3, 4));
    CHECK(refused(2, 0, 1));
    CHECK(refused(3, 0, 0));
    CHECK(refused(~std::size_t{0}, 0, 1));
    CHECK(writer->write(0, 4, {}));
    CHECK(writer->write(2, 0, {}));
    REQUIRE(writer->write(1, 0, bytes_of("abcd")));
    REQUIRE(writer->commit());
    CHECK(read_file(directory / "x").ends_with(std::string("\0\0\0\0abcd", 8)));
    CHECK(!writer->write(1, 0, bytes_of("z")));
    CHECK(!writer->commit());
    CHECK(read_file(directory / "x").ends_with("abcd"));
    sf::tensor_file_writer nothing;
    CHECK(!nothing.write(0, 0, bytes_of("z")));
    CHECK(!nothing.commit());
}

TEST_CASE("writer: until it is committed, the target is as it was; an abandoned file leaves nothing behind") {
    const temporary_directory directory;
    write_file(directory / "a.safetensors", "old");
    const std::vector<owned_tensor> tensors{make_tensor("t", sf::dtype::f32, {100})};
    const owned_tensor& tensor = tensors[0];
    const auto specs = specs_of(tensors);
    {
        auto writer = sf::tensor_file_writer::create(directory / "a.safetensors", specs);
        REQUIRE(writer);
        REQUIRE(writer->write(0, 0, bytes_of(tensor.data)));
        CHECK(read_file(directory / "a.safetensors") == "old");
        auto moved = std::move(*writer);
        REQUIRE(moved.write(0, 0, bytes_of(tensor.data)));
        CHECK(names_in(directory).size() == 2);
    }
    CHECK(names_in(directory) == std::vector<std::string>{"a.safetensors"});
    CHECK(read_file(directory / "a.safetensors") == "old");
    REQUIRE(sf::write_tensor_file(directory / "a.safetensors", views_of(tensors)));
    CHECK(names_in(directory) == std::vector<std::string>{"a.safetensors"});
    check_same(tensors, sf::tensor_file::open(directory / "a.safetensors").value());
}

TEST_CASE("writer: whoever has the old file mapped keeps it, also when a file is written over itself") {
    const temporary_directory directory;
    const auto path = directory / "a.safetensors";
    std::mt19937 random{4};
    const auto tensors = random_tensors(random, 20);
    REQUIRE(sf::write_tensor_file(path, views_of(tensors)));
    const std::string before = read_file(path);
    const auto mapped = sf::tensor_file::open(path);
    REQUIRE(mapped);
    std::vector<sf::named_tensor> views;
    for (std::size_t i = 0; i < mapped->size(); ++i) views.push_back({(*mapped)[i].name, mapped->view(i).value()});
    REQUIRE(sf::write_tensor_file(path, views));
    CHECK(read_file(path) == before);
    REQUIRE(sf::write_tensor_file(path, {}, {}));
    CHECK(read_file(path).size() == 16);
    check_same(tensors, *mapped);
}

TEST_CASE("writer: a path that cannot be written is named") {
    const temporary_directory directory;
    std::filesystem::create_directory(directory.path() / "d");
    const auto code_of = [&](const std::string& path) {
        const auto done = sf::write_tensor_file(path, {});
        REQUIRE(!done);
        CHECK(done.error().file == path);
        return done.error().code;
    };
    CHECK(code_of(directory / "absent/a.safetensors") == sf::errc::file_not_found);
    CHECK(code_of(directory / "d") == sf::errc::not_a_file);
    write_file(directory / "f", "x");
    CHECK(code_of(directory / "f/a.safetensors") == sf::errc::not_a_directory);
    CHECK(names_in(directory) == std::vector<std::string>{"d", "f"});
}

TEST_CASE("split: follows huggingface_hub's rules") {
    check_split(byte_tensors{{}}, 10);
    check_split(byte_tensors{{10}}, 10);              // exactly the most
    check_split(byte_tensors{{5, 5, 1}}, 10);
    check_split(byte_tensors{{11}}, 10);              // larger than the most
    check_split(byte_tensors{{3, 11, 3}}, 10);        // the large one is numbered before the open one
    check_split(byte_tensors{{3, 11, 3, 12, 5}}, 10);
    check_split(byte_tensors{{0, 0, 0}}, 10);
    check_split(byte_tensors{{10, 0, 0, 10, 0}}, 10); // nothing always fits
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
    const byte_tensors large{{half, half, half, half, half, half, half, half, half, half, half, half, half, half, half, half, half}};
    const auto split = sf::split_into_shards(large.specs, ~std::uint64_t{0});
    REQUIRE(split);
    CHECK(split->shard_count == 2);
    CHECK(split->shard_of[14] == 0);
    CHECK(split->shard_of[15] == 1);

    const shape huge{std::uint64_t{1} << 62, 4}, odd{3};
    const sf::tensor_spec overflowing[] = {{"a", sf::dtype::f32, huge}};
    CHECK(sf::split_into_shards(overflowing, 10).error().code == sf::errc::size_overflow);
    const sf::tensor_spec cut[] = {{"a", sf::dtype::f4, odd}};
    CHECK(sf::split_into_shards(cut, 10).error().code == sf::errc::partial_byte);
    CHECK(sf::split_into_shards(cut, 10).error().tensor == "a");
}

namespace {

/// Writes a checkpoint through checkpoint_writer, tensor by tensor.
sf::result<void> write_all(const std::string& directory, const std::vector<owned_tensor>& tensors, std::uint64_t most) {
    const auto specs = specs_of(tensors);
    auto writer = sf::checkpoint_writer::create(directory, specs, most);
    if (!writer) return writer.error();
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        auto file = writer->open_shard(shard);
        if (!file) return file.error();
        std::size_t number = 0;
        for (std::size_t i = 0; i < tensors.size(); ++i)
            if (writer->shard_of(i) == shard)
                if (auto done = file->write(number++, 0, bytes_of(tensors[i].data)); !done) return done;
        if (auto done = file->commit(sf::durability::renamed); !done) return done;
    }
    return writer->finish(sf::durability::renamed);
}

}  // namespace

TEST_CASE("checkpoint writer: any split reads back as the same tensors, with a sound index") {
    std::mt19937 random{6};
    const auto tensors = random_tensors(random, 50);
    const std::uint64_t total = std::accumulate(tensors.begin(), tensors.end(), std::uint64_t{0},
                                                [](std::uint64_t sum, const owned_tensor& each) { return sum + each.data.size(); });
    for (const std::uint64_t most : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{333}, std::uint64_t{1000}, total - 1, total, total + 1}) {
        CAPTURE(most);
        const temporary_directory directory;
        REQUIRE(write_all(directory / "out", tensors, most));
        const auto checkpoint = sf::checkpoint::open(directory / "out");
        REQUIRE(checkpoint);
        REQUIRE(checkpoint->size() == tensors.size());
        CHECK(checkpoint->index_path().empty() == (most >= total));
        for (const owned_tensor& each : tensors) {
            const auto view = checkpoint->find(each.name);
            REQUIRE(view);
            CHECK(view->type() == each.type);
            CHECK(string_of(view->bytes()) == each.data);
        }
        const auto report = sf::checkpoint::verify(directory / "out");
        REQUIRE(report);
        CHECK(report->is_sound());
        CHECK(report->notes().empty());  // total_size among them
        CHECK(report->tensor_bytes() == total);
        if (most >= total) CHECK(std::filesystem::exists(directory.path() / "out" / "model.safetensors"));
    }
}

TEST_CASE("checkpoint writer: shards and index are named and written as huggingface_hub does") {
    const temporary_directory directory;
    REQUIRE(write_all(directory.string(), {make_tensor("b", sf::dtype::u8, {3}), make_tensor("a", sf::dtype::u8, {11}), make_tensor("c", sf::dtype::u8, {3})}, 10));
    CHECK(names_in(directory) == std::vector<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"});
    CHECK(read_file(directory / "model.safetensors.index.json") ==
          "{\n  \"metadata\": {\n    \"total_size\": 17\n  },\n  \"weight_map\": {\n    \"a\": \"model-00001-of-00002.safetensors\",\n    \"b\": "
          "\"model-00002-of-00002.safetensors\",\n    \"c\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");

    const temporary_directory whole;
    REQUIRE(write_all(whole.string(), {make_tensor("b", sf::dtype::u8, {3})}, 3));
    CHECK(names_in(whole) == std::vector<std::string>{"model.safetensors"});

    const temporary_directory empty;
    REQUIRE(write_all(empty / "out", {}, 3));
    CHECK(sf::checkpoint::open(empty / "out").value().size() == 0);
}

TEST_CASE("checkpoint writer: without its index, what is there is no checkpoint or a whole one") {
    const temporary_directory directory;
    const std::vector<owned_tensor> tensors{make_tensor("a", sf::dtype::u8, {8}), make_tensor("b", sf::dtype::u8, {8}), make_tensor("c", sf::dtype::u8, {8})};
    const auto specs = specs_of(tensors);
    const auto writer = sf::checkpoint_writer::create(directory.string(), specs, 8);
    REQUIRE(writer);
    REQUIRE(writer->shard_count() == 3);
    for (std::uint32_t shard = 0; shard < 3; ++shard) {
        const auto early = sf::checkpoint::open(directory.string());
        REQUIRE(!early);
        CHECK((early.error().code == sf::errc::no_checkpoint || early.error().code == sf::errc::incomplete_series));
        auto file = writer->open_shard(shard);
        REQUIRE(file);
        REQUIRE(file->write(0, 0, bytes_of(tensors[shard].data)));
        REQUIRE(file->commit(sf::durability::renamed));
    }
    CHECK(sf::checkpoint::open(directory.string()).value().size() == 3);
    REQUIRE(writer->finish());
    CHECK(!sf::checkpoint::open(directory.string()).value().index_path().empty());
}

TEST_CASE("checkpoint writer: what cannot become a checkpoint is refused before anything is written") {
    const temporary_directory directory;
    const shape eight{8};
    const sf::tensor_spec twice[] = {{"a", sf::dtype::u8, eight}, {"b", sf::dtype::u8, eight}, {"a", sf::dtype::u8, eight}};
    const auto duplicate = sf::checkpoint_writer::create(directory / "out", twice, 8);
    REQUIRE(!duplicate);
    CHECK(duplicate.error().code == sf::errc::duplicate_tensor);
    CHECK(duplicate.error().tensor == "a");
    CHECK(names_in(directory).empty());

    write_file(directory / "file", "x");
    CHECK(sf::checkpoint_writer::create(directory / "file", {}).error().code == sf::errc::not_a_directory);
    CHECK(sf::checkpoint_writer::create(directory / "file/out", {}).error().code == sf::errc::not_a_directory);
    CHECK(sf::checkpoint_writer::create(directory / "absent/out", {}).error().code == sf::errc::file_not_found);
    CHECK(!sf::checkpoint_writer::create("", {}));
    CHECK(names_in(directory) == std::vector<std::string>{"file"});
}

TEST_CASE("checkpoint writer: a directory that holds tensor files or an index is refused, other files are no matter") {
    for (const char* old : {"model.safetensors", "model-00001-of-00002.safetensors", "other.safetensors", "model.safetensors.index.json"}) {
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
    for (const char* other : {"config.json", "tokenizer.json", ".model.safetensors.0.tmp", "model.safetensors.txt"}) write_file(directory / other, "x");
    std::filesystem::create_directory(directory.path() / "d.safetensors");
    CHECK(sf::checkpoint_writer::create(directory.string(), {}));
}
