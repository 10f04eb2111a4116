// Building blocks for the cases of the conformance suite.
#ifndef SAFEFUSE_TESTS_CONFORMANCE_PIECES_HPP
#define SAFEFUSE_TESTS_CONFORMANCE_PIECES_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "suite.hpp"

namespace conformance {

/// Collects cases topic by topic.
class header_suite {
public:
    /// All cases added after this call belong to this topic.
    void topic(std::string name) { topic_ = std::move(name); }

    /// Adds a whole file, valid or not.
    header_case& file(std::optional<errc> refusal, std::string name, std::string reason,
                      std::string bytes) {
        cases_.push_back({std::move(name), topic_, std::move(reason), std::move(bytes)});
        cases_.back().refusals.fill(refusal);
        return cases_.back();
    }
    header_case& accept(std::string name, std::string reason, std::string_view json,
                        std::size_t data_bytes = 0) {
        return file({}, std::move(name), std::move(reason), framed(json, data_bytes));
    }
    header_case& refuse(errc code, std::string name, std::string reason, std::string_view json,
                        std::size_t data_bytes = 0) {
        return file(code, std::move(name), std::move(reason), framed(json, data_bytes));
    }

    std::vector<header_case> take() { return std::move(cases_); }

    static std::string length(std::uint64_t bytes) {
        std::string out(8, '\0');
        for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(bytes >> 8 * i & 255);
        return out;
    }
    static std::string framed(std::string_view json, std::size_t data_bytes) {
        return length(json.size()) + std::string{json} + std::string(data_bytes, '\0');
    }

private:
    std::vector<header_case> cases_;
    std::string topic_;
};

namespace detail {

using namespace std::string_literals;

inline std::string text(std::uint64_t number) { return std::to_string(number); }

/// "name":{"dtype":...,"shape":...,"data_offsets":...}, with every value exactly as given.
inline std::string entry(std::string_view name, std::string_view type, std::string_view shape,
                         std::string_view offsets, std::string_view extra = {}) {
    std::string out = "\"" + std::string{name} + "\":{\"dtype\":" + std::string{type} +
                      ",\"shape\":" + std::string{shape};
    return out + ",\"data_offsets\":" + std::string{offsets} + std::string{extra} + "}";
}
/// One-byte elements from begin to end.
inline std::string bytes(std::string_view name, std::uint64_t begin, std::uint64_t end) {
    return entry(name, "\"U8\"", "[" + text(end - begin) + "]",
                 "[" + text(begin) + "," + text(end) + "]");
}
/// An empty tensor.
inline std::string empty(std::string_view name, std::uint64_t at) {
    return entry(name, "\"I32\"", "[0]", "[" + text(at) + "," + text(at) + "]");
}
/// A header of these entries.
inline std::string object(const std::vector<std::string>& entries) {
    std::string out = "{";
    for (const std::string& each : entries) out += (out.size() == 1 ? "" : ",") + each;
    return out + "}";
}
/// A header of one tensor.
inline std::string one(std::string_view type, std::string_view shape, std::string_view offsets,
                       std::string_view extra = {}) {
    return "{" + entry("t", type, shape, offsets, extra) + "}";
}
/// The valid tensor of four bytes that cases modify.
inline std::string named(std::string_view name) { return "{" + bytes(name, 0, 4) + "}"; }
/// The valid tensor with a field that the format does not define.
inline std::string with_extra(std::string_view value) {
    return one("\"U8\"", "[4]", "[0,4]", ",\"x\":" + std::string{value});
}
inline std::string with_metadata(std::string_view value) {
    return "{\"__metadata__\":" + std::string{value} + "}";
}

inline std::string repeated(std::string_view piece, std::size_t times) {
    std::string out;
    for (std::size_t i = 0; i < times; ++i) out += piece;
    return out;
}
inline std::string nested(std::size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
}

}  // namespace detail

}  // namespace conformance

#endif
