// Headers and tables made to be slow or large. Nothing here measures time: each input is so large
// that an algorithm worse than linear (or than the sort's n log n) would not end while anyone
// waits.
#include <safefuse/format/header.hpp>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/format/shard_index.hpp>
#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/model_config.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/rewrite_plan.hpp>

#include "../support/support.hpp"

namespace sf = safefuse;
using support::bytes_of;
using support::framed;

namespace {

constexpr std::size_t most_json_bytes = 100'000'000;

std::string entry(std::string_view name, std::uint64_t begin, std::uint64_t end) {
    std::string out{"\""};
    out.append(name)
        .append(R"(":{"dtype":"U8","shape":[)")
        .append(std::to_string(end - begin))
        .append(R"(],"data_offsets":[)");
    return out.append(std::to_string(begin)).append(",").append(std::to_string(end)).append("]}");
}

/// The header of tensors 0 .. count - 1, each at place(i).
template <class Place>
std::string header_of(std::size_t count, const Place& place) {
    std::string json{"{"};
    for (std::size_t i = 0; i < count; ++i) {
        if (i != 0) json += ',';
        const auto [begin, end] = place(i);
        json += entry(std::to_string(i), begin, end);
    }
    return framed(json + "}");
}

struct extent {
    std::uint64_t begin, end;
};

sf::result<sf::header> parse(const std::string& file, sf::read_options options = {}) {
    options.max_header_bytes = sf::unknown;
    return sf::header::parse(bytes_of(file), sf::unknown, options);
}

sf::errc refusal(const std::string& file, const sf::read_options& options = {}) {
    const auto parsed = parse(file, options);
    REQUIRE(!parsed);
    return parsed.error().code;
}

std::string repeated(std::string_view what, std::size_t count) {
    std::string out;
    out.reserve(what.size() * count);
    for (std::size_t i = 0; i < count; ++i) out += what;
    return out;
}

void check_overlaps(std::size_t count) {
    // all at one place; each over half of the next; each around the next; all at one place but
    // without bytes, which is no overlap
    CHECK(refusal(header_of(count, [](std::size_t) { return extent{0, 1}; })) ==
          sf::errc::bad_offsets);
    CHECK(refusal(header_of(count, [](std::size_t i) { return extent{i, i + 2}; }),
                  sf::read_options::lenient()) == sf::errc::bad_offsets);
    CHECK(refusal(header_of(count, [&](std::size_t i) { return extent{i, 2 * count - i}; }),
                  sf::read_options::lenient()) == sf::errc::bad_offsets);
    const std::string of_no_bytes = header_of(count, [](std::size_t) { return extent{0, 0}; });
    const auto empty = parse(of_no_bytes);
    REQUIRE(empty);
    CHECK(empty->size() == count);
    CHECK(empty->data_bytes() == 0);
    // the last first
    const std::string last_first =
        header_of(count, [&](std::size_t i) { return extent{count - 1 - i, count - i}; });
    const auto backwards = parse(last_first);
    REQUIRE(backwards);
    CHECK(backwards->find("0") == count - 1);
    CHECK(backwards->find(std::to_string(count - 1)) == 0);
}

}  // namespace

TEST_CASE("adversarial: a million tensors that overlap, or are in reverse order") {
    check_overlaps(1'000'000);
}

TEST_CASE(
    "adversarial: ten million tensors that overlap, or are in reverse order, if "
    "SAFEFUSE_TEST_LARGE is set") {
    if (std::getenv("SAFEFUSE_TEST_LARGE") != nullptr) check_overlaps(10'000'000);
}

TEST_CASE("adversarial: a hundred million brackets are refused at the first one that is too deep") {
    const std::string deep(most_json_bytes - 100, '[');
    for (const std::string_view start :
         {"", R"({"a":)", R"({"a":{"x":)", R"({"__metadata__":)", R"({"a":{"dtype":"U8","shape":)",
          R"({"__metadata__":{"k":)"}) {
        CAPTURE(start);
        const auto parsed = parse(framed(std::string{start} + deep));
        REQUIRE(!parsed);
        CHECK(parsed.error().offset <= 8 + start.size() + 128);
    }
    const std::string objects = repeated(R"({"a":)", 10'000'000);
    CHECK(refusal(framed(R"({"a":{"x":)" + objects)) == sf::errc::header_not_json);
    CHECK(sf::model_config::parse(bytes_of(R"({"a":)" + deep)).error().code == sf::errc::bad_json);
    CHECK(sf::shard_index::parse(bytes_of(R"({"a":)" + objects)).error().code ==
          sf::errc::bad_json);
}

TEST_CASE("adversarial: one string of nearly the largest header, plain and of escapes") {
    const std::string plain(most_json_bytes - 200, 'n');
    const std::string escapes = repeated("\\u006e", most_json_bytes / 6 - 100);
    const std::string tail = R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    for (const std::string* const each : {&plain, &escapes}) {
        const std::string& name = *each;
        const std::string file = framed("{\"" + name + tail);
        const auto parsed = parse(file);
        REQUIRE(parsed);
        REQUIRE(parsed->size() == 1);
        CHECK((*parsed)[0].name.size() == (each == &plain ? name.size() : name.size() / 6));
        CHECK(parsed->find((*parsed)[0].name) == 0);
        const std::string metadata = framed(R"({"__metadata__":{"k":")" + name + "\"}}");
        const auto described = parse(metadata);
        REQUIRE(described);
        CHECK(described->metadata(0).value.size() == (*parsed)[0].name.size());
        CHECK(refusal(framed("{\"" + name)) == sf::errc::header_not_json);
    }
}

TEST_CASE(
    "adversarial: a header of exactly the limit is read, full of tensors or of spaces, and one "
    "byte more is refused") {
    std::string json{"{"};
    std::size_t count = 0;
    for (; json.size() < most_json_bytes - 100; ++count)
        json += (count == 0 ? "" : ",") + entry(std::to_string(count), count, count + 1);
    json += '}';
    json.resize(most_json_bytes, ' ');
    const std::string file = framed(json);
    const auto full = sf::header::parse(bytes_of(file), 8 + most_json_bytes + count);
    REQUIRE(full);
    CHECK(full->size() == count);
    CHECK(full->find(std::to_string(count / 2)) == count / 2);
    json = "{}" + std::string(most_json_bytes - 2, ' ');
    CHECK(sf::header::parse(bytes_of(framed(json)), 8 + most_json_bytes).has_value());
    json += ' ';
    const auto over = sf::header::parse(bytes_of(framed(json)), 9 + most_json_bytes);
    REQUIRE(!over);
    CHECK(over.error().code == sf::errc::header_too_large);
}

TEST_CASE("adversarial: a million tensors of one name") {
    constexpr std::size_t count = 1'000'000;
    std::string json{"{"};
    for (std::size_t i = 0; i < count; ++i) json += (i == 0 ? "" : ",") + entry("same", 0, 4);
    const std::string file = framed(json + "}");
    CHECK(refusal(file) == sf::errc::duplicate_tensor);
    const auto last = parse(file, sf::read_options::reference());
    REQUIRE(last);
    CHECK(last->size() == 1);
    CHECK(last->data_bytes() == 4);
    const std::string keys =
        framed(R"({"__metadata__":{"k":"v")" + repeated(R"(,"k":"w")", count) + "}}");
    const auto metadata = parse(keys);
    REQUIRE(metadata);
    REQUIRE(metadata->metadata_size() == 1);
    CHECK(metadata->metadata(0).value == "w");
}

TEST_CASE("adversarial: names that collide in well-known hashes are all found") {
    std::vector<std::string> names;
    // the hash h = 31 h + c, as in Java, is equal for "Aa" and "BB"
    for (std::uint32_t bits = 0; bits < 1u << 17; ++bits) {
        std::string name;
        for (int i = 0; i < 17; ++i) name += (bits >> i & 1) != 0 ? "Aa" : "BB";
        names.push_back(std::move(name));
    }
    // names that differ only in the middle, for hashes that read the ends
    for (std::uint32_t i = 0; i < 1u << 17; ++i)
        names.push_back(std::string(32, 'x') + std::to_string(i) + std::string(32, 'x'));
    // names that differ only in length, for hashes that are sums or ignore zeros
    for (std::size_t i = 1; i < 2'000; ++i) names.push_back(std::string(i, 'y'));
    // names that differ by multiples of 2^32, for hashes that fold words
    for (std::uint32_t i = 0; i < 1u << 16; ++i) {
        const std::string word{
            static_cast<char>('0' + (i & 15)), static_cast<char>('0' + (i >> 4 & 15)),
            static_cast<char>('0' + (i >> 8 & 15)), static_cast<char>('0' + (i >> 12))};
        names.push_back("word" + word + "word" + word);
    }
    std::string json{"{"};
    for (std::size_t i = 0; i < names.size(); ++i)
        json += (i == 0 ? "" : ",") + support::json_string(names[i]) +
                R"(:{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    const std::string file = framed(json + "}");
    const auto parsed = parse(file);
    REQUIRE(parsed);
    REQUIRE(parsed->size() == names.size());
    std::size_t found = 0;
    for (std::size_t i = 0; i < names.size(); ++i) found += parsed->find(names[i]) == i ? 1u : 0u;
    CHECK(found == names.size());
}

TEST_CASE("adversarial: a tensor of ten million axes") {
    const std::string file = framed(R"({"a":{"dtype":"U8","shape":[1)" +
                                    repeated(",1", 10'000'000) + R"(],"data_offsets":[0,1]}})");
    const auto parsed = parse(file);
    REQUIRE(parsed);
    CHECK((*parsed)[0].shape.size() == 10'000'001);
    const sf::axis_range first[] = {sf::at(0)};
    const auto runs = sf::slice_runs::of((*parsed)[0].type, (*parsed)[0].shape, first);
    REQUIRE(runs);
    CHECK(runs->size_bytes() == 1);
    CHECK(refusal(framed(R"({"a":{"dtype":"U8","shape":[2)" + repeated(",2", 10'000'000) +
                         R"(],"data_offsets":[0,1]}})")) == sf::errc::size_overflow);
}

TEST_CASE("adversarial: numbers and ignored values as long as the header") {
    const std::string digits(most_json_bytes / 2, '9');
    CHECK(refusal(framed(R"({"a":{"x":)" + digits + "}}")) == sf::errc::header_not_json);
    CHECK(refusal(framed(R"({"a":{"x":0.)" + digits + "}}")) == sf::errc::header_bad_entry);
    CHECK(refusal(framed(R"({"a":{"x":1e-)" + digits + "}}")) == sf::errc::header_bad_entry);
    CHECK(refusal(framed(R"({"a":{"dtype":"U8","shape":[)" + digits + "]}}")) ==
          sf::errc::header_not_json);
}

TEST_CASE("adversarial: an index of 300,000 tensors, each in a file of its own, the last first") {
    constexpr std::size_t count = 300'000;
    std::string json{R"({"weight_map": {)"};
    for (std::size_t i = count; i-- > 0;)
        json += "\"t" + std::to_string(i) + R"(": "f-)" + std::to_string(i) + ".safetensors\"" +
                (i == 0 ? "" : ",");
    json += "}}";
    const auto index = sf::shard_index::parse(bytes_of(json));
    REQUIRE(index);
    CHECK(index->file_count() == count);
    CHECK(index->find("t0") == 0);
    CHECK(index->find("t299999") == count - 1);
    CHECK(index->file(2) == "f-2.safetensors");
}

TEST_CASE(
    "adversarial: a shape without bytes that claims many experts does not make one tensor for "
    "each") {
    const std::vector<std::uint64_t> pair{std::uint64_t{1} << 32, 0, 4},
        down{std::uint64_t{1} << 32, 4, 0};
    const auto plan_of = [&](const std::vector<std::uint64_t>& pair_shape,
                             const std::vector<std::uint64_t>& down_shape) {
        const std::vector<sf::named_tensor> tensors{
            {"m.mlp.experts.gate_up_proj",
             sf::tensor_view::of(sf::dtype::u8, pair_shape, {}).value()},
            {"m.mlp.experts.down_proj",
             sf::tensor_view::of(sf::dtype::u8, down_shape, {}).value()}};
        const sf::tensor_list list{tensors};
        const auto plan = sf::plan<sf::families::qwen2_moe>(
            list, "m.mlp.experts", sf::direction::inverse, {.allow_missing_scales = true});
        return plan ? std::string{std::to_string(plan->outputs().size())}
                    : std::string{plan.error().message().c_str()};
    };
    CHECK(plan_of(pair, down).find("too many experts") != std::string::npos);
    CHECK(plan_of({65'537, 0, 4}, {65'537, 4, 0}).find("too many experts") != std::string::npos);
    CHECK(plan_of({1'000, 0, 4}, {1'000, 4, 0}) == "3000");
}

TEST_CASE(
    "adversarial: a shape that claims a million experts is refused before memory is allocated "
    "for each, with or without bytes") {
    const auto outcome_of = [](std::uint64_t experts) {
        const std::vector<std::byte> bytes(static_cast<std::size_t>(experts) * 2);
        const std::vector<std::uint64_t> pair{experts, 2, 1}, down{experts, 1, 1};
        const std::vector<sf::named_tensor> tensors{
            {"m.mlp.experts.gate_up_proj", sf::tensor_view::of(sf::dtype::u8, pair, bytes).value()},
            {"m.mlp.experts.down_proj",
             sf::tensor_view::of(sf::dtype::u8, down,
                                 std::span{bytes}.first(static_cast<std::size_t>(experts)))
                 .value()}};
        const sf::tensor_list list{tensors};
        const auto plan = sf::plan<sf::families::qwen2_moe>(
            list, "m.mlp.experts", sf::direction::inverse, {.allow_missing_scales = true});
        if (plan) return std::to_string(plan->outputs().size());
        CHECK(plan.error().code == sf::errc::shape_mismatch);
        CHECK(plan.error().expected == 65'536);
        CHECK(plan.error().actual == experts);
        return std::string{plan.error().message().c_str()};
    };
    CHECK(outcome_of(1'000'000).find("too many experts") != std::string::npos);
    CHECK(outcome_of(65'537).find("too many experts") != std::string::npos);
    CHECK(outcome_of(4'000) == "12000");
}

TEST_CASE(
    "adversarial: modules that each claim the most experts allowed are refused if the sum is "
    "too large") {
    constexpr std::uint64_t experts = 65'536;
    const std::vector<std::byte> bytes(static_cast<std::size_t>(experts) * 2);
    const std::vector<std::uint64_t> pair{experts, 2, 1}, down{experts, 1, 1};
    std::vector<std::string> names;
    for (int layer = 0; layer < 6; ++layer)
        for (const char* part : {"gate_up_proj", "down_proj"})
            names.push_back("layers." + std::to_string(layer) + ".mlp.experts." + part);
    std::vector<sf::named_tensor> tensors;
    for (std::size_t i = 0; i < names.size(); ++i) {
        const std::vector<std::uint64_t>& shape = i % 2 == 0 ? pair : down;
        const auto held = std::span{bytes}.first(static_cast<std::size_t>(experts * shape[1]));
        tensors.push_back({names[i], sf::tensor_view::of(sf::dtype::u8, shape, held).value()});
    }
    const sf::tensor_list list{tensors};
    const auto plan =
        sf::rewrite_plan::make(list, sf::description_of<sf::families::qwen2_moe>,
                               sf::direction::inverse, {.allow_missing_scales = true});
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == sf::errc::shape_mismatch);
    CHECK(plan.error().scope == "layers.5.mlp.experts");
    CHECK(plan.error().expected == 1'048'576);
    CHECK(plan.error().actual == 6 * 3 * experts - 6 * 2);
}
