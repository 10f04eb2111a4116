// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a strict JSON parser that reads value by value from memory. It accepts exactly what
// serde_json 1.0 accepts, so that headers are accepted or refused as by the reference
// implementation.
#ifndef SAFEFUSE_FORMAT_DETAIL_JSON_CURSOR_HPP
#define SAFEFUSE_FORMAT_DETAIL_JSON_CURSOR_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/json_scan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The kind of the next value, judged by its first byte; `none` if no value can begin there.
enum class json_kind : std::uint8_t { none, object, array, string, number, boolean, null };

/// The characters between a string's quotes. The escapes are already checked, so decoding can fail
/// only for lack of memory.
struct json_string {
    std::string_view raw;
    bool escaped = false;  ///< false: `raw` is the string

    [[nodiscard]] bool decode(vector<char>& out) const noexcept;
    /// Whether the decoded string equals `other`.
    [[nodiscard]] bool operator==(std::string_view other) const noexcept;

private:
    [[nodiscard]] bool decodes_to(std::string_view other) const noexcept;
};

/// Reads JSON from front to back. The caller says what it expects. The first call that finds
/// something else returns false, and so does every later call. Then `error()` says what is wrong
/// and `offset()` says where. Read objects and arrays like this:
///     for (cursor.enter_object(); cursor.next_member(key);) { ... read or skip one value ... }
///     if (cursor.failed()) ...
/// Nothing is allocated, and time is linear in the size of the text. The caller checks that the
/// text is UTF-8 (is_utf8).
class json_cursor {
public:
    explicit json_cursor(std::string_view json) noexcept
        : begin_{json.data()}, at_{begin_}, end_{begin_ + json.size()} {}
    explicit json_cursor(span<const std::byte> json) noexcept
        : json_cursor{std::string_view{reinterpret_cast<const char*>(json.data()), json.size()}} {}

    [[nodiscard]] bool failed() const noexcept { return error_ != nullptr; }
    /// What is wrong, as a short hint without the position; nullptr before any failure.
    [[nodiscard]] const char* error() const noexcept { return error_; }
    /// Whether the JSON was valid but not of the kind that the caller expected.
    [[nodiscard]] bool is_type_error() const noexcept { return is_type_error_; }
    /// The offset that is read next; after a failure, the offset of the error.
    [[nodiscard]] std::size_t offset() const noexcept {
        return static_cast<std::size_t>(at_ - begin_);
    }

    /// The kind of the next value. Does not move past the value, and never fails.
    [[nodiscard]] SAFEFUSE_NOINLINE json_kind peek() noexcept {
        skip_space();
        if (failed() || at_ == end_) return json_kind::none;
        switch (*at_) {
        case '{': return json_kind::object;
        case '[': return json_kind::array;
        case '"': return json_kind::string;
        case 't':
        case 'f': return json_kind::boolean;
        case 'n': return json_kind::null;
        default: return *at_ == '-' || is_digit(*at_) ? json_kind::number : json_kind::none;
        }
    }

    bool enter_object() noexcept { return enter('{', "expected an object"); }
    bool enter_array() noexcept { return enter('[', "expected an array"); }

    /// In an object: reads the next key. Exactly one value must then be read or skipped. Returns
    /// false at the end of the object, and on failure. At the end the cursor moves past the object.
    SAFEFUSE_NOINLINE bool next_member(json_string& key) noexcept {
        if (!next('}', "expected , or }")) return false;
        if (at_ == end_) return fail("the JSON ends inside an object");
        if (*at_ != '"') return fail("a key must be a string");
        if (!read_string(key)) return false;
        skip_space();
        if (at_ == end_ || *at_ != ':') return fail("expected : after a key");
        ++at_;
        return true;
    }

    /// In an array: whether there is a next element. It must then be read or skipped. Returns false
    /// at the end of the array, and on failure. At the end the cursor moves past the array.
    bool next_element() noexcept { return next(']', "expected , or ]"); }

    bool read_string(json_string& out) noexcept {
        // usually true, and then faster than expect()
        const bool begins = at_ != end_ && *at_ == '"' && !failed();
        if (!begins && !expect(json_kind::string, "expected a string")) return false;
        const char* const first = ++at_;
        bool escaped = false;
        for (;;) {
            at_ = find_string_stop(at_, end_);
            if (at_ == end_) return fail("the JSON ends inside a string");
            if (*at_ == '"') break;
            if (*at_ != '\\') return fail("control character in a string");
            escaped = true;
            if (!skip_escape()) return false;
        }
        out = {{first, static_cast<std::size_t>(at_ - first)}, escaped};
        ++at_;
        return true;
    }

    /// Reads a non-negative integer below 2^64 without sign, fraction or exponent.
    SAFEFUSE_NOINLINE bool read_unsigned(std::uint64_t& out) noexcept {
        constexpr const char* wanted = "expected a non-negative integer below 2^64";
        const bool begins = at_ != end_ && is_digit(*at_) && !failed();
        if (!begins && !expect(json_kind::number, wanted)) return false;
        const char* const first = at_;
        const char* at = first;
        std::uint64_t value = 0;
        for (; at - first < 19 && at != end_ && is_digit(*at); ++at)
            value = value * 10 + static_cast<std::uint64_t>(*at - '0');
        bool fits = at != first;  // a sign is not a digit
        for (; at != end_ && is_digit(*at); ++at) {
            const auto digit = static_cast<std::uint64_t>(*at - '0');
            fits = fits && value <= (~std::uint64_t{0} - digit) / 10;
            value = value * 10 + digit;
        }
        at_ = at;
        const bool leading_zero = at_ - first > 1 && *first == '0';
        const bool goes_on = at_ != end_ && (*at_ == '.' || *at_ == 'e' || *at_ == 'E');
        if (leading_zero || !fits || goes_on) {
            at_ = first;
            if (!skip_number()) return false;
            at_ = first;
            return fail(wanted, true);
        }
        out = value;
        return true;
    }

    bool read_boolean(bool& out) noexcept {
        if (!expect(json_kind::boolean, "expected true or false")) return false;
        out = *at_ == 't';
        return skip_word(out ? "true" : "false");
    }

    bool read_null() noexcept {
        return expect(json_kind::null, "expected null") && skip_word("null");
    }

    /// Skips one value of any kind and checks it completely.
    bool skip_value() noexcept {
        json_string ignored;
        switch (peek()) {
        case json_kind::object:
            // recursion is as deep as the nesting, which enter() limits
            for (enter_object(); next_member(ignored);)
                if (!skip_value()) return false;
            return !failed();
        case json_kind::array:
            for (enter_array(); next_element();)
                if (!skip_value()) return false;
            return !failed();
        case json_kind::string: return read_string(ignored);
        case json_kind::number: return skip_number();
        case json_kind::boolean: return skip_word(*at_ == 't' ? "true" : "false");
        case json_kind::null: return skip_word("null");
        case json_kind::none: break;
        }
        return fail(at_ == end_ ? "the JSON ends where a value is expected" : "expected a value");
    }

    /// After the outermost value: whether only white space follows.
    bool finish() noexcept {
        skip_space();
        return at_ == end_ ? !failed() : fail("unexpected characters after the JSON");
    }

    /// For a caller that has a faster way to skip some bytes: [here(), end()) is not read yet.
    [[nodiscard]] const char* here() const noexcept { return at_; }
    [[nodiscard]] const char* end() const noexcept { return end_; }
    /// Continues at `at`, after the caller read a whole member or element.
    void resume_after_value(const char* at) noexcept {
        at_ = at;
        is_first_ = false;
    }
    /// Whether the object or array entered last has had no member or element yet.
    [[nodiscard]] bool is_first() const noexcept { return is_first_; }

    /// Reports a failure at the current position: valid JSON that the caller does not accept.
    /// Returns false.
    bool refuse(const char* why) noexcept { return fail(why, true); }

private:
    static constexpr int deepest = 127;  // serde_json counts down from 128 and refuses at 0

    [[nodiscard]] static constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

    SAFEFUSE_COLD bool fail(const char* why, bool is_type_error = false) noexcept {
        if (error_ == nullptr) {
            error_ = why;
            is_type_error_ = is_type_error;
        }
        return false;
    }

    void skip_space() noexcept {
        if (at_ != end_ && static_cast<unsigned char>(*at_) > ' ') return;
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
    }

    SAFEFUSE_NOINLINE bool expect(json_kind wanted, const char* why) noexcept {
        const json_kind found = peek();
        if (found == wanted) return true;
        if (found != json_kind::none) return fail(why, true);
        return fail(at_ == end_ ? "the JSON ends where a value is expected" : "expected a value");
    }

    SAFEFUSE_NOINLINE bool enter(char open, const char* why) noexcept {
        const bool begins = at_ != end_ && *at_ == open && !failed();
        if (!begins && !expect(open == '{' ? json_kind::object : json_kind::array, why))
            return false;
        if (depth_ == deepest) return fail("nested too deeply");
        ++depth_;
        ++at_;
        is_first_ = true;
        return true;
    }

    SAFEFUSE_NOINLINE bool next(char close, const char* why) noexcept {
        if (failed()) return false;
        skip_space();
        if (at_ == end_) return fail("the JSON ends inside an object or array");
        if (*at_ == close) {
            ++at_;
            --depth_;
            is_first_ = false;
            return false;
        }
        if (!is_first_) {
            if (*at_ != ',') return fail(why);
            ++at_;
            skip_space();
            if (at_ != end_ && *at_ == close) return fail("trailing comma");
        }
        is_first_ = false;
        return true;
    }

    bool skip_word(std::string_view word) noexcept {
        if (static_cast<std::size_t>(end_ - at_) < word.size() ||
            std::memcmp(at_, word.data(), word.size()) != 0)
            return fail("expected a value");
        at_ += word.size();
        return true;
    }

    bool skip_escape() noexcept {
        const char* const first = at_++;
        if (at_ == end_) return fail("the JSON ends inside a string");
        if (*at_ != 'u') {
            if (*at_ == '\0' || std::strchr("\"\\/bfnrt", *at_) == nullptr)
                return fail("invalid escape");
            ++at_;
            return true;
        }
        at_ = first;
        std::uint32_t unit = 0;
        if (!read_code_unit(unit)) return false;
        if (unit < 0xD800 || unit > 0xDFFF) return true;
        const bool is_paired = unit <= 0xDBFF && end_ - at_ >= 2 && at_[0] == '\\' && at_[1] == 'u';
        if (is_paired && !read_code_unit(unit)) return false;
        return (is_paired && unit >= 0xDC00 && unit <= 0xDFFF) ||
               fail("half of a surrogate pair in a string");
    }

    /// Reads \uXXXX.
    SAFEFUSE_NOINLINE bool read_code_unit(std::uint32_t& unit) noexcept {
        if (end_ - at_ < 6 || at_[0] != '\\' || at_[1] != 'u') return fail("invalid escape");
        unit = 0;
        for (int i = 2; i < 6; ++i) {
            const int digit = hex_digit(at_[i]);
            if (digit < 0) return fail("invalid escape");
            unit = unit << 4 | static_cast<std::uint32_t>(digit);
        }
        at_ += 6;
        return true;
    }

    bool skip_digits() noexcept {
        const char* const first = at_;
        while (at_ != end_ && is_digit(*at_)) ++at_;
        return at_ != first;
    }

    bool skip_number() noexcept;

    const char* begin_;
    const char* at_;
    const char* end_;
    const char* error_ = nullptr;
    int depth_ = 0;
    bool is_first_ = false;
    bool is_type_error_ = false;

public:
    [[nodiscard]] static constexpr int hex_digit(char c) noexcept {
        if (is_digit(c)) return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
    }
};

/// The parts of a JSON number: digits before and after the point, and the exponent.
struct number_text {
    const char* digits;  ///< the first digit
    const char* point;   ///< one past the digits before the point
    const char* end;     ///< one past the last digit; the exponent follows
    std::int64_t exponent = 0;
};

/// Whether a number is finite when converted as serde_json does: as many leading digits as fit 64
/// bits, times a power of ten.
inline bool is_finite(const number_text& number) noexcept {
    std::uint64_t significand = 0;
    const char* digit = number.digits;
    const auto take_digit = [&]() noexcept {
        const auto value = static_cast<std::uint64_t>(*digit - '0');
        if (significand > (~std::uint64_t{0} - value) / 10) return false;
        significand = significand * 10 + value;
        return true;
    };
    while (digit != number.point && take_digit()) ++digit;
    std::int64_t scale = number.point - digit;
    if (number.point != number.end)
        for (digit = number.point + 1; digit != number.end && take_digit(); ++digit) --scale;
    scale += number.exponent;
    if (significand == 0 || scale <= 0) return true;
    if (scale > 308) return false;
    const char power[] = {'1',
                          'e',
                          static_cast<char>('0' + scale / 100),
                          static_cast<char>('0' + scale / 10 % 10),
                          static_cast<char>('0' + scale % 10),
                          '\0'};
    return static_cast<double>(significand) * std::strtod(power, nullptr) <= 1.7976931348623157e308;
}

/// serde_json converts ignored numbers to double and refuses those that become infinite. To refuse
/// the same ones, this computes the number in the same way.
inline bool json_cursor::skip_number() noexcept {
    const char* const first = at_;
    if (*at_ == '-') ++at_;
    number_text number{.digits = at_, .point = nullptr, .end = nullptr};
    if (!skip_digits()) return fail("invalid number");
    if (*number.digits == '0' && at_ - number.digits > 1) return fail("a number begins with 0");
    number.point = at_;
    if (at_ != end_ && *at_ == '.') {
        ++at_;
        if (!skip_digits()) return fail("invalid number");
    }
    number.end = at_;
    bool negative_exponent = false;
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
        ++at_;
        if (at_ != end_ && (*at_ == '+' || *at_ == '-')) negative_exponent = *at_++ == '-';
        const char* const exponent_digits = at_;
        if (!skip_digits()) return fail("invalid number");
        for (const char* digit = exponent_digits;
             digit != at_ && number.exponent < 1'000'000'000'000; ++digit)
            number.exponent = number.exponent * 10 + (*digit - '0');
    }
    // the number is below 10^300
    if (at_ - first + (negative_exponent ? 0 : number.exponent) < 300) return true;
    if (negative_exponent) number.exponent = -number.exponent;
    if (is_finite(number)) return true;
    at_ = first;
    return fail("number out of range");
}

/// Decodes the character of `raw` at `at` into `out`, moves `at` past it and returns the number of
/// bytes written.
SAFEFUSE_NOINLINE inline std::size_t decode_character(std::string_view raw, std::size_t& at,
                                                      char* out) noexcept {
    const char* const first = raw.data() + at;
    if (first[0] != '\\') return ++at, out[0] = first[0], 1;
    if (first[1] != 'u') {
        constexpr std::string_view letters = "bfnrt", meanings = "\b\f\n\r\t";
        const std::size_t letter = letters.find(first[1]);
        out[0] = letter == letters.npos ? first[1] : meanings[letter];
        return at += 2, 1;
    }
    const auto code_unit = [](const char* escape) noexcept {
        std::uint32_t unit = 0;
        for (int i = 2; i < 6; ++i)
            unit = unit << 4 | static_cast<std::uint32_t>(json_cursor::hex_digit(escape[i]));
        return unit;
    };
    std::uint32_t point = code_unit(first);
    at += 6;
    if (point >= 0xD800 && point <= 0xDFFF) {
        point = 0x10000 + ((point & 0x3FF) << 10) + (code_unit(first + 6) & 0x3FF);
        at += 6;
    }
    const std::size_t count = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (std::size_t i = count; i-- > 1; point >>= 6)
        out[i] = static_cast<char>(0x80 | (point & 0x3F));
    constexpr unsigned char leads[] = {0, 0xC0, 0xE0, 0xF0};
    out[0] = static_cast<char>(leads[count - 1] | point);
    return count;
}

/// Appends the decoded string. Returns false if memory runs out.
SAFEFUSE_NOINLINE inline bool json_string::decode(vector<char>& out) const noexcept {
    if (!escaped) return out.append(raw.data(), raw.size());
    const std::size_t before = out.size();
    // a decoded string is never longer than its encoded form
    if (!out.resize_unset(before + raw.size())) return false;
    std::size_t size = before;
    for (std::size_t at = 0; at < raw.size();) size += decode_character(raw, at, out.data() + size);
    return out.resize_unset(size);
}

inline bool json_string::operator==(std::string_view other) const noexcept {
    return escaped ? decodes_to(other) : raw == other;
}

SAFEFUSE_NOINLINE inline bool json_string::decodes_to(std::string_view other) const noexcept {
    for (std::size_t at = 0; at < raw.size();) {
        char character[4];
        const std::string_view decoded =
            characters_at(character, decode_character(raw, at, character));
        if (!other.starts_with(decoded)) return false;
        other.remove_prefix(decoded.size());
    }
    return other.empty();
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
