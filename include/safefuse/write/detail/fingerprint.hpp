// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a 128-bit fingerprint, to tell whether two runs work on the same thing. It guards
// against accidents, not against attackers.
#ifndef SAFEFUSE_WRITE_DETAIL_FINGERPRINT_HPP
#define SAFEFUSE_WRITE_DETAIL_FINGERPRINT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/write/fingerprint.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Hashes numbers and texts in the order in which they are added. The result is equal on every
/// machine.
class fingerprint_maker {
public:
    void add(std::uint64_t number) noexcept {
        made_.high = multiply_fold(made_.high ^ number, 0x9E3779B97F4A7C15) + number;
        made_.low = multiply_fold(made_.low + number, 0xE7037ED1A0B428DB) ^
                    (made_.low << 7 | made_.low >> 57);
    }
    void add(std::string_view characters) noexcept {
        add(characters.size());
        for (std::size_t i = 0; i < characters.size(); i += 8) {
            std::uint64_t word = 0;
            for (std::size_t b = i; b < characters.size() && b < i + 8; ++b)
                word = word << 8 | static_cast<unsigned char>(characters[b]);
            add(word);
        }
    }
    [[nodiscard]] fingerprint made() const noexcept { return made_; }

private:
    fingerprint made_{0x8EBC6AF09C88C6E3, 0x589965CC75374CC3};
};

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
