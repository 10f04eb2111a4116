// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: owned characters for names and messages. <string> costs more to compile than the rest
// of the library.
#ifndef SAFEFUSE_CORE_TEXT_HPP
#define SAFEFUSE_CORE_TEXT_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/plain.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Owned, zero-terminated characters. Nothing here throws. A text that memory ran out for is empty
/// from then on, and remembers it: appending to it fails, and so is every text lost that is made
/// from it or takes it in, by way of a string_view too. A name put together from several pieces is
/// asked once.
class text {
public:
    text() noexcept = default;
    /// @{
    /// A copy of the characters; see lacks_memory().
    SAFEFUSE_NOINLINE text(std::string_view characters) noexcept { append(characters); }
    text(const char* characters) noexcept : text{std::string_view{characters}} {}
    SAFEFUSE_NOINLINE text(const text& other) noexcept : text{other.view()} {}
    /// @}
    /// The other is then empty.
    text(text&& other) noexcept : block_{other.block_} { other.block_ = nullptr; }
    /// A copy of the other; see lacks_memory().
    text& operator=(const text& other) noexcept {
        text copy{other};
        return *this = std::move(copy);
    }
    /// The other is then empty.
    text& operator=(text&& other) noexcept {
        block* const taken = other.block_;
        other.block_ = nullptr;
        release();
        block_ = taken;
        return *this;
    }
    ~text() { release(); }

    /// @{
    /// The characters, without the zero.
    ///   lifetime  until the text changes
    [[nodiscard]] SAFEFUSE_NOINLINE std::string_view view() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return detail::characters_at(c_str(), size());
    }
    operator std::string_view() const noexcept SAFEFUSE_LIFETIMEBOUND { return view(); }
    /// @}
    /// The characters and a zero.
    ///   lifetime  until the text changes
    [[nodiscard]] const char* c_str() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return block_ == nullptr ? "" : reinterpret_cast<const char*>(block_ + 1);
    }
    /// How many bytes there are before the zero.
    [[nodiscard]] std::size_t size() const noexcept { return block_ == nullptr ? 0 : block_->size; }
    /// Whether there is none.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    /// Whether memory ran out for it, at any time since it was made or last assigned to.
    [[nodiscard]] bool lacks_memory() const noexcept { return block_ == lost(); }
    /// Whether characters are those of such a text.
    [[nodiscard]] static bool lacks_memory(std::string_view characters) noexcept {
        return characters.data() == reinterpret_cast<const char*>(lost() + 1);
    }

    /// Returns false when memory ran out, for this or for `more`; the text is then empty and stays
    /// so.
    SAFEFUSE_NOINLINE bool append(std::string_view more) noexcept {
        if (lacks_memory() || lacks_memory(more)) return lose();
        if (more.empty()) return true;
        const std::size_t before = size(), after = before + more.size();
        if (block_ == nullptr || after > block_->capacity) {
            if (more.size() > PTRDIFF_MAX / 2 - before) return lose();
            const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(more.data()) -
                                      reinterpret_cast<std::uintptr_t>(c_str());
            const bool inside = at < before;  // it may lie in the block that moves
            const std::size_t half_more = before + before / 2,
                              capacity = after > half_more ? after : half_more;
            auto* const grown =
                static_cast<block*>(std::realloc(block_, sizeof(block) + capacity + 1));
            if (grown == nullptr) return lose();
            grown->capacity = capacity;
            block_ = grown;
            if (inside) more = detail::characters_at(c_str() + at, more.size());
        }
        char* const characters = reinterpret_cast<char*>(block_ + 1);
        std::memcpy(characters + before, more.data(), more.size());
        characters[after] = '\0';
        block_->size = after;
        return true;
    }

    /// Appends a number in decimal, digits in groups of three: 24,786,776.
    bool append_count(std::uint64_t number) noexcept { return append_digits(number, true); }
    /// Appends a number in decimal.
    bool append_number(std::uint64_t number) noexcept { return append_digits(number, false); }

    /// @{
    /// Equal byte for byte.
    friend bool operator==(const text& a, std::string_view b) noexcept { return a.view() == b; }
    friend bool operator==(const text& a, const char* b) noexcept { return a.view() == b; }
    friend bool operator==(const text& a, const text& b) noexcept { return a.view() == b.view(); }
    /// @}

private:
    SAFEFUSE_NOINLINE bool append_digits(std::uint64_t number, bool grouped) noexcept {
        char digits[32];
        std::size_t first = sizeof digits;
        for (int count = 0; first == sizeof digits || number != 0; ++count, number /= 10) {
            if (grouped && count != 0 && count % 3 == 0) digits[--first] = ',';
            digits[--first] = static_cast<char>('0' + number % 10);
        }
        return append(detail::characters_at(digits + first, sizeof digits - first));
    }

    // What is behind the pointer, and then the characters and a zero. A failure has four texts, of
    // which most are empty: each costs it a pointer.
    struct block {
        std::size_t size;
        std::size_t capacity;
    };
    // Stands for the block of every text that memory ran out for, and for its zero.
    static constexpr block lost_[2]{};
    [[nodiscard]] static block* lost() noexcept { return const_cast<block*>(lost_); }
    // One copy: every failure has four texts to release.
    SAFEFUSE_NOINLINE void release() noexcept {
        if (!lacks_memory()) std::free(block_);
    }
    bool lose() noexcept {
        release();
        block_ = lost();
        return false;
    }

    block* block_ = nullptr;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
