// safefuse: owned characters for names and messages. <string> costs more to compile than the rest of the library.
#ifndef SAFEFUSE_TEXT_HPP
#define SAFEFUSE_TEXT_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/detail/array.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// Owned, zero-terminated characters. Nothing here throws: where memory runs out, the text stays as it was.
class text {
public:
    text() noexcept = default;
    /// @{
    /// A copy of the characters; empty when memory ran out.
    text(std::string_view characters) noexcept { append(characters); }  // NOLINT: a name converts to an owned name
    text(const char* characters) noexcept : text{std::string_view{characters}} {}  // NOLINT
    text(const text& other) noexcept : text{other.view()} {}
    /// @}
    /// The other is then empty.
    text(text&&) noexcept = default;
    /// A copy of the other; empty when memory ran out.
    text& operator=(const text& other) noexcept {
        if (this != &other) {
            characters_.clear();
            append(other.view());
        }
        return *this;
    }
    /// The other is then empty.
    text& operator=(text&&) noexcept = default;
    ~text() = default;

    /// @{
    /// The characters, without the zero.
    ///   lifetime  until the text changes
    [[nodiscard]] std::string_view view() const noexcept SAFEFUSE_LIFETIMEBOUND { return {c_str(), size()}; }
    operator std::string_view() const noexcept SAFEFUSE_LIFETIMEBOUND { return view(); }  // NOLINT
    /// @}
    /// The characters and a zero.
    ///   lifetime  until the text changes
    [[nodiscard]] const char* c_str() const noexcept SAFEFUSE_LIFETIMEBOUND { return characters_.empty() ? "" : characters_.data(); }
    /// How many bytes there are before the zero.
    [[nodiscard]] std::size_t size() const noexcept { return characters_.empty() ? 0 : characters_.size() - 1; }
    /// Whether there is none.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    /// Returns false when memory ran out.
    bool append(std::string_view more) noexcept {
        if (more.empty()) return true;
        const std::size_t before = characters_.size();
        if (!characters_.reserve((before == 0 ? 1 : before) + more.size())) return false;
        if (before != 0) characters_.pop();
        return characters_.append(more.data(), more.size()) && characters_.push('\0');
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
    bool append_digits(std::uint64_t number, bool grouped) noexcept {
        char digits[32];
        std::size_t first = sizeof digits;
        for (int count = 0; first == sizeof digits || number != 0; ++count, number /= 10) {
            if (grouped && count != 0 && count % 3 == 0) digits[--first] = ',';
            digits[--first] = static_cast<char>('0' + number % 10);
        }
        return append({digits + first, sizeof digits - first});
    }

    detail::array<char> characters_;  // empty, or the characters and a zero
};

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
