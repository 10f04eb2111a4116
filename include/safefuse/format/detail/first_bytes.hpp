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
SAFEFUSE_SMALL inline std::string_view told_by_first_bytes(span<const std::byte> start) noexcept {
    const std::string_view bytes =
        characters_at(reinterpret_cast<const char*>(start.data()), start.size());
    // a header length and the opening brace: a tensor file
    if (bytes.size() > 8 && bytes[8] == '{' && bytes[7] == 0) return {};
    struct mark {
        std::string_view begins, what;
    };
    static constexpr mark marks[] = {
        {"version https://git-lfs", "a Git LFS pointer: \"git lfs pull\" downloads the file"},
        {"PK\x03\x04", "a zip archive, as PyTorch writes .bin and .pt files"},
        {"\x80\x02", "a Python pickle, as PyTorch wrote .bin and .pt files before 1.6"},
        {"\x80\x04", "a Python pickle"},
        {"GGUF", "a GGUF file, as llama.cpp reads it"},
        {"\x1f\x8b", "compressed by gzip"},
        {"\x28\xb5\x2f\xfd", "compressed by zstd"},
        {"\xfd"
         "7zXZ",
         "compressed by xz"},
        {"\x89HDF\r\n", "an HDF5 file"},
        {"\x93NUMPY", "a NumPy array"},
        {"Entry not found", "an error message of the hub, not the file: download it again"},
        {"Repository not found", "an error message of the hub, not the file: download it again"},
        {"Access to model",
         "an error message of the hub, not the file: ask for access, then download it again"},
    };
    for (const mark& each : marks)
        if (bytes.starts_with(each.begins)) return each.what;
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
