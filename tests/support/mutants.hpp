// Tensor files with deliberately changed numbers: powers of two and their neighbours, sums and
// products that overflow at 2^64, ends before begins. The table of tensors is changed before it is
// written, so that the numbers are wrong and not the JSON. In a few files, bytes of the JSON are
// changed as well.
#ifndef SAFEFUSE_TESTS_MUTANTS_HPP
#define SAFEFUSE_TESTS_MUTANTS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mutants {

/// Numbers that look random but are the same on every machine.
class random_numbers {
public:
    explicit random_numbers(std::uint64_t seed) : state_{seed} {}
    std::uint64_t any() {  // splitmix64
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }
    std::uint64_t below(std::uint64_t end) { return any() % end; }
    bool one_in(std::uint64_t chances) { return below(chances) == 0; }
    template <class T, std::size_t Count>
    const T& one_of(const T (&all)[Count]) {
        return all[below(Count)];
    }

private:
    std::uint64_t state_;
};

/// 2^k and its neighbours, modulo 2^64; every fourth time another number.
inline std::uint64_t structural_number(random_numbers& random) {
    switch (random.below(8)) {
    case 0: return random.below(10);
    case 1: return random.any() >> random.below(64);
    default: {
        const std::uint64_t k = random.below(65);
        return (k == 64 ? 0 : std::uint64_t{1} << k) + random.below(7) - 3;
    }
    }
}

/// The inverse of `odd` modulo 2^64.
inline std::uint64_t inverse_of(std::uint64_t odd) {
    std::uint64_t inverse = odd;
    for (int i = 0; i < 6; ++i) inverse *= 2 - odd * inverse;
    return inverse;
}

struct entry {
    std::string name;
    std::string type;
    std::uint64_t bits = 8;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

/// The size of a shape in bytes modulo 2^64, as a validator without checks computes it.
inline std::uint64_t wrapped_size(const entry& of) {
    std::uint64_t elements = 1;
    for (const std::uint64_t extent : of.shape) elements *= extent;
    return of.bits % 8 == 0 ? elements * (of.bits / 8) : elements * of.bits / 8;
}

/// Places the tensors one after the other without gaps, modulo 2^64.
inline void lay_out(std::vector<entry>& table) {
    std::uint64_t at = 0;
    for (entry& each : table) {
        each.begin = at;
        each.end = at += wrapped_size(each);
    }
}

inline std::vector<entry> sound_table(random_numbers& random) {
    struct kind {
        const char* name;
        std::uint64_t bits;
    };
    constexpr kind kinds[] = {{"U8", 8},   {"BOOL", 8},    {"F4", 4},   {"F6_E2M3", 6},
                              {"I8", 8},   {"F8_E4M3", 8}, {"F16", 16}, {"BF16", 16},
                              {"F32", 32}, {"C64", 64},    {"I64", 64}, {"F64", 64}};
    constexpr std::uint64_t extents[] = {0, 1, 1, 2, 3, 4, 5, 8};
    constexpr std::size_t counts[] = {0, 1, 1, 2, 3, 4, 6, 9, 12};
    std::vector<entry> table(random.one_of(counts));
    for (std::size_t i = 0; i < table.size(); ++i) {
        entry& each = table[i];
        const kind& type = random.one_of(kinds);
        each.name = "t" + std::to_string(i);
        each.type = type.name;
        each.bits = type.bits;
        each.shape.resize(random.below(4));
        for (std::uint64_t& extent : each.shape) extent = random.one_of(extents);
        if (type.bits % 8 != 0) each.shape.push_back(8);
    }
    lay_out(table);
    return table;
}

/// The largest number of elements of that type: with one more, a tensor would have 2^64 bits.
inline std::uint64_t most_elements(const entry& of) { return ~std::uint64_t{0} / of.bits / 8 * 8; }

/// Changes numbers of a table.
inline void change(std::vector<entry>& table, random_numbers& random) {
    if (table.empty()) return;
    const std::size_t chosen = static_cast<std::size_t>(random.below(table.size()));
    entry& each = table[chosen];
    const auto any_number = [&](entry& of) -> std::uint64_t& {
        const std::uint64_t which = random.below(of.shape.size() + 2);
        return which == 0   ? of.begin
               : which == 1 ? of.end
                            : of.shape[static_cast<std::size_t>(which - 2)];
    };
    switch (random.below(12)) {
    case 0: any_number(each) = structural_number(random); break;
    case 1: any_number(each) += structural_number(random); break;
    case 2: std::swap(each.begin, each.end); break;
    case 3:  // a pair whose difference modulo 2^64 fits the shape
        each.begin = structural_number(random);
        each.end = each.begin + wrapped_size(each);
        break;
    case 4: {  // all tensors from one on are moved by the same distance
        const std::uint64_t distance = structural_number(random);
        for (std::size_t i = chosen; i < table.size(); ++i) {
            table[i].begin += distance;
            table[i].end += distance;
        }
        break;
    }
    case 5:  // large tensors, all without gaps modulo 2^64
        for (entry& any : table)
            if (random.one_in(2)) any.shape = {most_elements(any)};
        each.shape = {random.one_in(2) ? most_elements(each) : random.below(64)};
        lay_out(table);
        break;
    case 6: {  // as above, with a last tensor that makes the sum slightly larger than 2^64
        const std::size_t large = 8 + static_cast<std::size_t>(random.below(2));
        entry pad;
        pad.type = "U8";
        for (std::size_t i = 0; i < large; ++i) {
            pad.name = "p" + std::to_string(i);
            pad.shape = {most_elements(pad) - random.below(3)};
            table.insert(
                table.begin() + static_cast<std::ptrdiff_t>(random.below(table.size() + 1)), pad);
        }
        lay_out(table);
        std::uint64_t left = random.below(32) - table.back().end;
        while (left > most_elements(pad)) {
            pad.name += "x";
            pad.shape = {most_elements(pad)};
            left -= most_elements(pad);
            table.push_back(pad);
        }
        pad.name = "z";
        pad.shape = {left};
        table.push_back(pad);
        lay_out(table);
        break;
    }
    case 7: {  // a shape whose product overflows to the size in the offsets
        const std::uint64_t wanted = wrapped_size(each), odd = random.any() | 1;
        each.shape = {odd, inverse_of(odd)};
        if (each.bits == 8) each.shape.push_back(wanted);
        if (random.one_in(2)) std::swap(each.shape[0], each.shape[1]);
        break;
    }
    case 8: {  // powers of two whose product is 2^64 or close to it
        const std::uint64_t k = 1 + random.below(63);
        each.shape = {std::uint64_t{1} << k,
                      std::uint64_t{1} << (64 - k - random.below(k < 61 ? 4 : 1))};
        if (random.one_in(2))
            each.shape.insert(each.shape.begin() + static_cast<std::ptrdiff_t>(random.below(3)), 0);
        each.end = each.begin + wrapped_size(each);
        break;
    }
    case 9:
        each.shape.insert(
            each.shape.begin() + static_cast<std::ptrdiff_t>(random.below(each.shape.size() + 1)),
            structural_number(random));
        if (random.one_in(2)) lay_out(table);
        break;
    case 10: {
        const entry copy = each;
        table.push_back(copy);
        if (!random.one_in(3)) table.back().name += "'";
        break;
    }
    default: table.erase(table.begin() + static_cast<std::ptrdiff_t>(chosen)); break;
    }
}

inline std::string spelled(const std::vector<entry>& table, random_numbers& random) {
    // Three of four times in the formatting of the reference's writer, for the fast path; otherwise
    // with escapes, white space and another order of fields.
    const bool is_plain = !random.one_in(4);
    const auto space = [&] { return !is_plain && random.one_in(4) ? " " : ""; };
    std::string json{"{"};
    if (random.one_in(3)) json += R"("__metadata__":{"format":"pt"})";
    for (const entry& each : table) {
        if (json.size() > 1) json += ',';
        std::string name = each.name;
        if (!is_plain && random.one_in(2)) name.insert(0, "\\u0065");
        std::string shape;
        for (const std::uint64_t extent : each.shape)
            shape += (shape.empty() ? "" : std::string{","} + space()) + std::to_string(extent);
        std::string fields[] = {"\"dtype\":\"" + each.type + '"',
                                std::string{"\"shape\":"} + space() + "[" + shape + "]",
                                "\"data_offsets\":[" + std::to_string(each.begin) + "," + space() +
                                    std::to_string(each.end) + "]"};
        if (!is_plain && random.one_in(3)) std::swap(fields[0], fields[random.below(3)]);
        json += '"' + name + "\":" + space() + "{" + fields[0] + "," + fields[1] + space() + "," +
                fields[2] + "}";
    }
    return json + "}";
}

/// Changes a digit, a byte or a piece of text.
inline void change_text(std::string& json, random_numbers& random) {
    const std::size_t at = static_cast<std::size_t>(random.below(json.size()));
    switch (random.below(4)) {
    case 0: json[at] = static_cast<char>(random.below(256)); break;
    case 1: json.erase(at, 1 + static_cast<std::size_t>(random.below(4))); break;
    case 2:
        json.insert(at, json.substr(static_cast<std::size_t>(random.below(json.size())),
                                    1 + static_cast<std::size_t>(random.below(40))));
        break;
    default: {
        const std::size_t digit = json.find_first_of("0123456789", at);
        if (digit != json.npos) json[digit] = static_cast<char>('0' + random.below(10));
    }
    }
}

/// Replaces one of the numbers of a JSON text.
inline void change_number(std::string& json, random_numbers& random) {
    std::vector<std::pair<std::size_t, std::size_t>> numbers;
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    for (std::size_t i = 0; i < json.size();) {
        std::size_t end = i;
        while (end < json.size() && is_digit(json[end])) ++end;
        if (end > i) numbers.push_back({i, end - i});
        i = end + 1;
    }
    if (numbers.empty()) return;
    const auto [at, digits] = numbers[static_cast<std::size_t>(random.below(numbers.size()))];
    json.replace(at, digits, std::to_string(structural_number(random)));
}

/// The JSON of a header, and the number of data bytes to follow it.
struct made {
    std::string json;
    std::size_t data_bytes = 0;
};

/// Makes a header from a seed.
inline made make(std::uint64_t seed) {
    random_numbers random{seed * 0x9E3779B97F4A7C15u + 1};
    std::vector<entry> table = sound_table(random);
    const std::uint64_t changes = random.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) change(table, random);
    // as many bytes as the end of the last tensor, or as the largest possible end; sometimes one
    // more or less
    std::uint64_t data_bytes = table.empty() ? 0 : table.back().end;
    if (data_bytes > 4096 || random.one_in(16)) {
        data_bytes = 0;
        for (const entry& each : table)
            if (each.end <= 4096) data_bytes = std::max(data_bytes, each.end);
    }
    if (random.one_in(16)) data_bytes += random.below(3) - (data_bytes > 0 ? 1u : 0u);
    if (random.one_in(4))
        for (std::size_t i = table.size(); i > 1; --i)
            std::swap(table[i - 1], table[static_cast<std::size_t>(random.below(i))]);
    made out{spelled(table, random), static_cast<std::size_t>(data_bytes)};
    if (random.one_in(32)) change_text(out.json, random);
    if (random.one_in(3)) out.json.append((8 - out.json.size() % 8) % 8, ' ');
    return out;
}

/// The file of a header; its data bytes differ from place to place.
inline std::string file_of(const made& header) {
    std::string file;
    for (std::size_t i = 0; i < 8; ++i)
        file += static_cast<char>(std::uint64_t{header.json.size()} >> 8 * i & 255);
    file += header.json;
    for (std::size_t i = 0; i < header.data_bytes; ++i)
        file += static_cast<char>((i * 167 + (i >> 8) * 13 + 5) & 255);
    return file;
}

}  // namespace mutants

#endif
