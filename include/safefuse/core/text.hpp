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

/// Owned, zero-terminated characters. Nothing here throws. If memory runs out, the text becomes
/// empty and stays so: lacks_memory() is true and appending fails. A text that is made from such a
/// text or appends it lacks memory too, also by way of a string_view. So a name that is built from
/// several pieces needs only one check, at the end.
class text {
public:
    text() noexcept = default;
    /// @{
    /// A copy of the characters; see lacks_memory().
    SAFEFUSE_NOINLINE text(std::string_view characters) noexcept { append(characters); }
    text(const char* characters) noexcept : text{std::string_view{characters}} {}
    SAFEFUSE_NOINLINE text(const text& other) noexcept : text{other.view()} {}
    /// @}
    /// Leaves the other text empty.
    text(text&& other) noexcept : block_{other.block_} { other.block_ = nullptr; }
    /// A copy of the other text; see lacks_memory().
    text& operator=(const text& other) noexcept {
        text copy{other};
        return *this = std::move(copy);
    }
    /// Leaves the other text empty.
    SAFEFUSE_NOINLINE text& operator=(text&& other) noexcept {
        block* const taken = other.block_;
        other.block_ = nullptr;
        release();
        block_ = taken;
        return *this;
    }
    ~text() { release(); }

    /// @{
    /// The characters, without the terminating zero.
    ///   lifetime  until the text changes
    [[nodiscard]] SAFEFUSE_NOINLINE std::string_view view() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return detail::characters_at(c_str(), size());
    }
    operator std::string_view() const noexcept SAFEFUSE_LIFETIMEBOUND { return view(); }
    /// @}
    /// The characters and a terminating zero.
    ///   lifetime  until the text changes
    [[nodiscard]] const char* c_str() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return block_ == nullptr ? "" : reinterpret_cast<const char*>(block_ + 1);
    }
    /// The number of bytes before the terminating zero.
    [[nodiscard]] std::size_t size() const noexcept { return block_ == nullptr ? 0 : block_->size; }
    /// Whether there are no characters.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    /// Whether memory ran out for this text since it was made or last assigned.
    [[nodiscard]] bool lacks_memory() const noexcept { return block_ == lost(); }
    /// Whether the characters belong to a text that lacks memory.
    [[nodiscard]] static bool lacks_memory(std::string_view characters) noexcept {
        return characters.data() == reinterpret_cast<const char*>(lost() + 1);
    }

    /// Appends characters. Returns false if memory runs out, or ran out before for this text or for
    /// `more`; the text is then empty and stays so.
    SAFEFUSE_NOINLINE bool append(std::string_view more) noexcept {
        if (lacks_memory() || lacks_memory(more)) return lose();
        if (more.empty()) return true;
        const std::size_t before = size(), after = before + more.size();
        if (block_ == nullptr || after > block_->capacity) {
            if (more.size() > PTRDIFF_MAX / 2 - before) return lose();
            const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(more.data()) -
                                      reinterpret_cast<std::uintptr_t>(c_str());
            const bool inside = at < before;  // `more` may point into the block that moves
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

    /// Appends zero-terminated characters, as above.
    SAFEFUSE_NOINLINE bool append(const char* more) noexcept {
        return append(std::string_view{more});
    }

    /// Appends a number in decimal with commas between groups of three digits: 24,786,776.
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

    // The head of the allocated block; the characters and a zero follow it. A failure has four
    // texts, most of them empty: each costs it one pointer.
    struct block {
        std::size_t size;
        std::size_t capacity;
    };
    // Stands for the block of every text that lacks memory, and for its zero.
    static constexpr block lost_[2]{};
    [[nodiscard]] static block* lost() noexcept { return const_cast<block*>(lost_); }
    // Not inlined: every failure has four texts to release.
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
