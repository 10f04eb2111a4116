#include <safefuse/write/tensor_file_writer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <type_traits>

#include <safefuse/read/tensor_file.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::bytes_of;
using support::read_file;
using support::string_of;
using support::temporary_directory;
using support::write_file;

static_assert(!std::is_copy_constructible_v<sf::tensor_file_writer> &&
              std::is_nothrow_move_constructible_v<sf::tensor_file_writer>);

namespace {

using shape = std::vector<std::uint64_t>;

std::vector<std::string> names_in(const temporary_directory& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{directory.path()})
        names.insert(entry.path().filename().string());
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
    for (const owned_tensor& each : tensors)
        views.push_back(
            {each.name, sf::tensor_view::of(each.type, each.extents, bytes_of(each.data)).value()});
    return views;
}
std::vector<sf::tensor_spec> specs_of(const std::vector<owned_tensor>& tensors) {
    std::vector<sf::tensor_spec> specs;
    for (const owned_tensor& each : tensors) specs.push_back({each.name, each.type, each.extents});
    return specs;
}

template <class File>
void check_same(const std::vector<owned_tensor>& tensors, const File& file) {
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

/// Tensors of all dtypes and any rank, some without elements.
std::vector<owned_tensor> random_tensors(std::mt19937& random, std::size_t count) {
    std::vector<owned_tensor> tensors;
    const auto below = [&](std::uint32_t end) {
        return static_cast<std::uint32_t>(random() % end);
    };
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

}  // namespace

TEST_CASE("writer: the reference's own test vector comes out byte for byte") {
    const temporary_directory directory;
    std::string data(24, '\0');
    for (std::size_t i = 0; i < 6; ++i) {
        const float value = static_cast<float>(i);
        std::memcpy(data.data() + i * 4, &value, 4);
    }
    const shape extents{1, 2, 3};
    const sf::named_tensor tensors[] = {
        {"attn.0", sf::tensor_view::of(sf::dtype::f32, extents, bytes_of(data)).value()}};
    REQUIRE(sf::write_tensor_file(directory / "a.safetensors", tensors, {}));
    CHECK(read_file(directory / "a.safetensors") ==
          std::string("\x40\0\0\0\0\0\0\0", 8) +
              R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})" + data);
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

TEST_CASE("writer: absent metadata and empty metadata give the reference's bytes") {
    const std::string data(2, 'x');
    const shape extents{2};
    const sf::named_tensor tensors[] = {
        {"w", sf::tensor_view::of(sf::dtype::u8, extents, bytes_of(data)).value()}};
    const auto written = [&](std::span<const sf::metadata_entry> metadata, bool keeps_empty) {
        const auto file =
            sf::encode_tensor_file(tensors, metadata, {.keeps_empty_metadata = keeps_empty});
        REQUIRE(file);
        return support::string_of(file->view()).substr(8);
    };
    const std::string w = R"("w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
    // serialize(tensors, None), serialize(tensors, Some({})), and what transformers asks for
    CHECK(written(sf::no_metadata, false) == "{" + w + "   xx");
    CHECK(written({}, false) == "{" + w + "   xx");
    CHECK(written(sf::no_metadata, true) == R"({"__metadata__":{},)" + w + " xx");
    CHECK(written(sf::pytorch_metadata, false) ==
          R"({"__metadata__":{"format":"pt"},)" + w + "    xx");
    CHECK(written(sf::pytorch_metadata, true) == written(sf::pytorch_metadata, false));
    const auto empty = sf::encode_tensor_file({}, {}, {.keeps_empty_metadata = true});
    REQUIRE(empty);
    CHECK(support::string_of(empty->view()).substr(8) == R"({"__metadata__":{}}     )");
    const auto parsed = sf::header::parse(*empty, empty->size());
    REQUIRE(parsed);
    CHECK(parsed->has_metadata());
    CHECK(parsed->metadata_size() == 0);
}

TEST_CASE(
    "writer: a file made in memory equals the file on the disk, also when it is written later") {
    const temporary_directory directory;
    std::mt19937 random{3};
    for (std::size_t round = 0; round < 20; ++round) {
        const auto tensors = random_tensors(random, round);
        const auto file = sf::encode_tensor_file(views_of(tensors));
        REQUIRE(file);
        REQUIRE(sf::write_tensor_file(directory / "a", views_of(tensors)));
        CHECK(support::string_of(file->view()) == read_file(directory / "a"));
        REQUIRE(sf::write_tensor_file(directory / "b", views_of(tensors), sf::pytorch_metadata, {},
                                      sf::durability::renamed));
        CHECK(support::string_of(file->view()) == read_file(directory / "b"));
        const auto read =
            sf::basic_tensor_file<sf::memory_source>::from(sf::memory_source{*file}, "in memory");
        REQUIRE(read);
        check_same(tensors, *read);
    }
    CHECK(sf::encode_tensor_file({}, sf::no_metadata, {.data_alignment = 3}).error().code ==
          sf::errc::out_of_range);
}

TEST_CASE("writer: a default-constructed view is refused, not written as zeros") {
    const temporary_directory directory;
    const sf::named_tensor none[] = {{"none", {}}};
    const auto file = sf::encode_tensor_file(none);
    REQUIRE(!file);
    CHECK(file.error().code == sf::errc::wrong_buffer_size);
    CHECK(file.error().tensor == "none");
    const auto written = sf::write_tensor_file(directory / "a", none);
    REQUIRE(!written);
    CHECK(written.error().code == sf::errc::wrong_buffer_size);
    CHECK(written.error().file == directory / "a");
    CHECK(names_in(directory).empty());
}

TEST_CASE("writer: written files are read back, with all dtypes, ranks and names") {
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
        // The reference's order: dtypes descending, then names. So every tensor is aligned to its
        // elements.
        for (std::size_t i = 0; i < file->size(); ++i) {
            const sf::tensor_entry entry = (*file)[i];
            const std::uint64_t align = sf::bits(entry.type) < 8 ? 1 : sf::bits(entry.type) / 8;
            CHECK(file->offset_bytes(i) % align == 0);
            if (i == 0) continue;
            const sf::tensor_entry before = (*file)[i - 1];
            // Tensors without bytes may share an offset; then a reader may return them in any
            // order.
            if (before.size_bytes() != 0 && entry.size_bytes() != 0)
                CHECK((before.type > entry.type ||
                       (before.type == entry.type && before.name < entry.name)));
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

TEST_CASE("writer: metadata comes first, sorted by key; without entries it is absent") {
    const temporary_directory directory;
    const sf::metadata_entry metadata[] = {
        {"zeta", "1"}, {"format", "pt"}, {"Alpha", "\"\n\xC3\xA9"}, {"", ""}};
    REQUIRE(sf::write_tensor_file(directory / "a", {}, metadata));
    CHECK(read_file(directory / "a")
              .substr(8)
              .starts_with(
                  "{\"__metadata__\":{\"\":\"\",\"Alpha\":\"\\\"\\n\xC3\xA9\",\"format\":\"pt\","
                  "\"zeta\":\"1\"}}"));
    const auto file = sf::tensor_file::open(directory / "a");
    REQUIRE(file);
    CHECK(file->header().metadata_size() == 4);
    REQUIRE(sf::write_tensor_file(directory / "b", {}, {}));
    const auto without = sf::tensor_file::open(directory / "b");
    REQUIRE(without);
    CHECK(!without->header().has_metadata());

    const sf::metadata_entry twice[] = {{"a", "1"}, {"a", "2"}};
    const auto refused = sf::write_tensor_file(directory / "c", {}, twice);
    REQUIRE(!refused);
    CHECK(refused.error().code == sf::errc::bad_name);
    const sf::metadata_entry garbled[] = {{"a", "\xFF"}};
    CHECK(sf::write_tensor_file(directory / "c", {}, garbled).error().code == sf::errc::bad_name);
    CHECK(names_in(directory) == std::vector<std::string>{"a", "b"});
}

TEST_CASE("writer: tensors that no reader would accept are refused, and the old file stays") {
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
    CHECK(code_of({{"a", sf::dtype::u8, none},
                   {"b", sf::dtype::u8, none},
                   {"a", sf::dtype::f32, none}}) == sf::errc::duplicate_tensor);
    CHECK(code_of({{"a", sf::dtype::f32, huge}}) == sf::errc::size_overflow);
    CHECK(code_of({{"a", sf::dtype::f4, three}}) == sf::errc::partial_byte);
    CHECK(code_of({{"a", sf::dtype::f4, {}}}) == sf::errc::partial_byte);
    CHECK(read_file(directory / "a") == "old");
    CHECK(names_in(directory) == std::vector<std::string>{"a"});
}

TEST_CASE(
    "writer: bytes may be written in any order and any pieces; bytes never written are zero") {
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
            const std::size_t count =
                std::min<std::size_t>(1 + random() % 100, tensors[t].data.size() - done);
            pieces.push_back({t, done, count});
            done += count;
        }
    std::shuffle(pieces.begin(), pieces.end(), random);
    for (const piece& each : pieces)
        REQUIRE(writer->write(each.tensor, each.first,
                              bytes_of(tensors[each.tensor].data).subspan(each.first, each.count)));
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
    const sf::tensor_spec specs[] = {
        {"a", sf::dtype::u8, four}, {"b", sf::dtype::u8, four}, {"c", sf::dtype::u8, none}};
    auto writer = sf::tensor_file_writer::create(directory / "x", specs);
    REQUIRE(writer);
    const std::string data = "12345";
    const auto refused = [&](std::size_t i, std::uint64_t offset, std::size_t count) {
        const auto done = writer->write(i, offset, bytes_of(data).first(count));
        return !done && done.error().code == sf::errc::out_of_range &&
               done.error().file == directory / "x";
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

TEST_CASE("writer: until commit the target is unchanged; without commit no file remains") {
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

#if !defined(_WIN32)  // Windows does not allow replacing a mapped file
TEST_CASE(
    "writer: a mapping of the old file stays valid, also when a file is written over itself") {
    const temporary_directory directory;
    const auto path = directory / "a.safetensors";
    std::mt19937 random{4};
    const auto tensors = random_tensors(random, 20);
    REQUIRE(sf::write_tensor_file(path, views_of(tensors)));
    const std::string before = read_file(path);
    const auto mapped = sf::tensor_file::open(path);
    REQUIRE(mapped);
    std::vector<sf::named_tensor> views;
    for (std::size_t i = 0; i < mapped->size(); ++i)
        views.push_back({(*mapped)[i].name, mapped->view(i).value()});
    REQUIRE(sf::write_tensor_file(path, views));
    CHECK(read_file(path) == before);
    REQUIRE(sf::write_tensor_file(path, {}, {}));
    CHECK(read_file(path).size() == 16);
    check_same(tensors, *mapped);
}
#endif

TEST_CASE("writer: the header of another number of tensors is refused, and nothing is written") {
    const support::temporary_directory directory;
    const std::vector<std::uint64_t> shape{4};
    const sf::tensor_spec tensors[] = {{"a", sf::dtype::u8, shape}, {"b", sf::dtype::u8, shape}};
    auto header = sf::encode_header({tensors, 1});
    REQUIRE(header);
    const auto writer =
        sf::tensor_file_writer::create(directory / "file.safetensors", tensors, std::move(*header));
    REQUIRE_FALSE(writer);
    CHECK(writer.error().code == sf::errc::out_of_range);
    CHECK(writer.error().expected == 2);
    CHECK(writer.error().actual == 1);
    CHECK(std::filesystem::is_empty(directory.path()));
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

TEST_CASE(
    "writer: data begins at the requested alignment, after spaces that every reader accepts; "
    "the bytes are the same") {
    std::mt19937 random{12};
    const auto tensors = random_tensors(random, 30);
    const temporary_directory directory;
    const auto views = views_of(tensors);
    REQUIRE(sf::write_tensor_file(directory / "plain", views));
    const auto plain = sf::tensor_file::open(directory / "plain", sf::read_options::strict());
    REQUIRE(plain);
    for (std::uint64_t alignment = 8; alignment <= sf::most_data_alignment; alignment *= 2) {
        CAPTURE(alignment);
        REQUIRE(sf::write_tensor_file(directory / "aligned", views, sf::pytorch_metadata,
                                      {.data_alignment = alignment}));
        const auto file = sf::tensor_file::open(directory / "aligned", sf::read_options::strict());
        REQUIRE(file);
        CHECK(file->header().header_bytes() % alignment == 0);
        check_same(tensors, *file);
        for (std::size_t i = 0; i < file->size(); ++i) CHECK((*file)[i].begin == (*plain)[i].begin);
        if (alignment == 8)
            CHECK(read_file(directory / "aligned") == read_file(directory / "plain"));
    }
    for (const std::uint64_t wrong :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4}, std::uint64_t{12},
          std::uint64_t{4097}, 2 * sf::most_data_alignment}) {
        const auto refused = sf::write_tensor_file(directory / "refused", views,
                                                   sf::pytorch_metadata, {.data_alignment = wrong});
        CHECK(refused.error().code == sf::errc::out_of_range);
        CHECK(refused.error().actual == wrong);
    }
}

TEST_CASE("writer: on request, tensors are in the order given") {
    const std::vector<owned_tensor> tensors{make_tensor("b", sf::dtype::u8, {8}),
                                            make_tensor("c", sf::dtype::f32, {2}),
                                            make_tensor("a", sf::dtype::bf16, {4})};
    const temporary_directory directory;
    REQUIRE(sf::write_tensor_file(directory / "f", views_of(tensors), {}, {.keeps_order = true}));
    const auto file = sf::tensor_file::open(directory / "f", sf::read_options::strict());
    REQUIRE(file);
    check_same(tensors, *file);
    for (std::size_t i = 0; i < tensors.size(); ++i) CHECK((*file)[i].name == tensors[i].name);
}
