// The common part of the fuzz targets. A target is a function of bytes; any error that it finds
// ends the process.
#ifndef SAFEFUSE_TESTS_FUZZ_FUZZ_HPP
#define SAFEFUSE_TESTS_FUZZ_FUZZ_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/format/header.hpp>

namespace fuzz {

/// Ends the process if a law does not hold, so that libFuzzer keeps the input.
inline void hold(bool law, std::string_view sentence) {
    if (law) return;
    std::fprintf(stderr, "broken: %.*s\n", static_cast<int>(sentence.size()), sentence.data());
    std::abort();
}
#define FUZZ_TEXT_OF_MACRO(macro) #macro
#define FUZZ_TEXT_OF(macro) FUZZ_TEXT_OF_MACRO(macro)
#define FUZZ_HOLD(...) \
    ::fuzz::hold((__VA_ARGS__), __FILE__ ":" FUZZ_TEXT_OF(__LINE__) ": " #__VA_ARGS__)

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span{text.data(), text.size()});
}

/// Reads an input piece by piece; after its end it returns zeros.
class reader {
public:
    explicit reader(std::string_view input) : left_{input} {}
    bool empty() const { return left_.empty(); }
    std::uint8_t byte() {
        if (left_.empty()) return 0;
        const char c = left_[0];
        left_.remove_prefix(1);
        return static_cast<std::uint8_t>(c);
    }
    std::string_view take(std::size_t count) {
        const std::string_view taken = left_.substr(0, count);
        left_.remove_prefix(taken.size());
        return taken;
    }

private:
    std::string_view left_;
};

/// Eight bytes of length, then the JSON.
inline std::string framed(std::string_view json) {
    std::string file;
    for (std::size_t i = 0; i < 8; ++i)
        file += static_cast<char>(std::uint64_t{json.size()} >> 8 * i & 255);
    return file.append(json);
}

/// The file for the JSON, with zeros as tensor bytes. If these exceed `most_data_bytes`, the header
/// alone.
inline std::string file_of(std::string_view json, std::uint64_t most_data_bytes) {
    std::string file = framed(json);
    const auto parsed = safefuse::header::parse(bytes_of(file), safefuse::unknown,
                                                safefuse::read_options::reference());
    if (parsed && parsed->data_bytes() <= most_data_bytes)
        file.append(static_cast<std::size_t>(parsed->data_bytes()), '\0');
    return file;
}

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

#endif
