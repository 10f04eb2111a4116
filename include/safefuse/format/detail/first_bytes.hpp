// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: recognises other file formats by their first bytes, for error messages.
#ifndef SAFEFUSE_FORMAT_DETAIL_FIRST_BYTES_HPP
#define SAFEFUSE_FORMAT_DETAIL_FIRST_BYTES_HPP

#include <cstddef>
#include <string_view>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The number of bytes that is enough to recognise a format.
inline constexpr std::size_t first_bytes_size = 64;

/// Whether `bytes` begins with `word` in lower or upper case, after optional white space.
constexpr bool begins_with_word(std::string_view bytes, std::string_view word) noexcept {
    while (!bytes.empty() &&
           (bytes[0] == ' ' || bytes[0] == '\n' || bytes[0] == '\r' || bytes[0] == '\t'))
        bytes.remove_prefix(1);
    if (bytes.size() < word.size()) return false;
    for (std::size_t i = 0; i < word.size(); ++i) {
        const char c =
            bytes[i] >= 'A' && bytes[i] <= 'Z' ? static_cast<char>(bytes[i] - 'A' + 'a') : bytes[i];
        if (c != word[i]) return false;
    }
    return true;
}

/// What a file with this beginning is, in words that complete "it is". Empty if it is not
/// recognised.
inline std::string_view told_by_first_bytes(span<const std::byte> start) noexcept {
    const std::string_view bytes =
        characters_at(reinterpret_cast<const char*>(start.data()), start.size());
    // a header length and the opening brace: a tensor file
    if (bytes.size() > 8 && bytes[8] == '{' && bytes[7] == 0) return {};
    // beginnings and what they tell, each with a zero after it: pointers would need relocations
    static constexpr char marks[] =
        "version https://git-lfs\0"
        "a Git LFS pointer: \"git lfs pull\" downloads the file\0"
        "PK\x03\x04\0"
        "a zip archive, as PyTorch writes .bin and .pt files\0"
        "\x80\x02\0"
        "a Python pickle, as PyTorch wrote .bin and .pt files before 1.6\0"
        "\x80\x04\0"
        "a Python pickle\0"
        "GGUF\0"
        "a GGUF file, as llama.cpp reads it\0"
        "\x1f\x8b\0"
        "compressed by gzip\0"
        "\x28\xb5\x2f\xfd\0"
        "compressed by zstd\0"
        "\xfd"
        "7zXZ\0"
        "compressed by xz\0"
        "\x89HDF\r\n\0"
        "an HDF5 file\0"
        "\x93NUMPY\0"
        "a NumPy array\0"
        "Entry not found\0"
        "an error message of the hub, not the file: download it again\0"
        "Repository not found\0"
        "an error message of the hub, not the file: download it again\0"
        "Access to model\0"
        "an error message of the hub, not the file: ask for access, then download it again\0";
    for (const char* at = marks; *at != '\0';) {
        const std::string_view begins{at}, what{at + begins.size() + 1};
        if (bytes.starts_with(begins)) return what;
        at = what.data() + what.size() + 1;
    }
    for (const char* const word : {"<!doctype", "<html", "<?xml", "<head"})
        if (begins_with_word(bytes, word))
            return "an HTML or XML page that a server sent in place of the file: download it again";
    return {};
}

/// Whether there are bytes and all of them are zero, as in a file whose download was never
/// finished.
inline bool all_zero(span<const std::byte> start) noexcept {
    for (const std::byte each : start)
        if (each != std::byte{0}) return false;
    return !start.empty();
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
