// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: elements in a row that belong to somebody else: bytes, extents, entries of tables.
// Spans convert to it and it converts to spans; it is not std::span because that would be a fifth
// of what the compiler does to include this library.
#ifndef SAFEFUSE_CORE_SPAN_HPP
#define SAFEFUSE_CORE_SPAN_HPP

#include <cstddef>
#include <string_view>  // which declares enable_borrowed_range
#include <type_traits>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

// g++ takes whatever a member function of a temporary returns for a part of that temporary; of
// std::span alone it knows better.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-reference"
#endif

/// A view of elements that lie one behind the other. Arrays, vectors and spans of the same
/// elements, or of elements that lack its const, convert to it, and it converts to a span.
///   lifetime  the elements stay their owner's
template <class T>
class span {
public:
    /// As containers call it.
    using value_type = std::remove_cv_t<T>;
    /// As containers call it.
    using iterator = T*;

    constexpr span() noexcept = default;
    /// The `count` elements from `first` on.
    constexpr span(T* first, std::size_t count) noexcept : first_{first}, count_{count} {}
    /// {0, 3} is two extents to its writer, and no null pointer.
    span(int, std::size_t) = delete;
    /// An array, as it is.
    template <std::size_t Count>
    constexpr span(T (&elements)[Count]) noexcept : first_{elements}, count_{Count} {}
    /// Whatever has data() and size() of its own elements; what is to be written to, nothing that
    /// ends with the expression.
    template <class Container>
        requires requires(Container& container) {
            requires !std::is_same_v<std::remove_cv_t<Container>, span>;
            requires std::is_const_v<T> || std::is_lvalue_reference_v<Container> ||
                         std::ranges::enable_borrowed_range<std::remove_cv_t<Container>>;
            // What may become const, but neither void nor a base class. (A function pointer as a
            // parameter here stops nvcc 13.)
            requires std::is_convertible_v<
                std::remove_pointer_t<decltype(container.data())>* const*, T* const*>;
            static_cast<std::size_t>(container.size());
        }
    constexpr span(Container&& container) noexcept
        : first_{container.data()}, count_{static_cast<std::size_t>(container.size())} {}

    /// The first element; null where there is none.
    [[nodiscard]] constexpr T* data() const noexcept { return first_; }
    /// How many elements there are.
    [[nodiscard]] constexpr std::size_t size() const noexcept { return count_; }
    /// How many bytes they take.
    [[nodiscard]] constexpr std::size_t size_bytes() const noexcept { return count_ * sizeof(T); }
    /// Whether there is none.
    [[nodiscard]] constexpr bool empty() const noexcept { return count_ == 0; }
    /// @{
    /// For range-based loops.
    [[nodiscard]] constexpr T* begin() const noexcept { return first_; }
    [[nodiscard]] constexpr T* end() const noexcept { return first_ + count_; }
    /// @}
    /// @{
    /// An element; which there must be, for nothing is checked.
    [[nodiscard]] constexpr T& operator[](std::size_t i) const noexcept { return first_[i]; }
    [[nodiscard]] constexpr T& front() const noexcept { return first_[0]; }
    [[nodiscard]] constexpr T& back() const noexcept { return first_[count_ - 1]; }
    /// @}
    /// @{
    /// The elements from `first` on, `count` of them; which must be there. Without a count, or with
    /// std::dynamic_extent: all of them.
    [[nodiscard]] constexpr span subspan(
        std::size_t first, std::size_t count = static_cast<std::size_t>(-1)) const noexcept {
        return {first_ + first, count == static_cast<std::size_t>(-1) ? count_ - first : count};
    }
    [[nodiscard]] constexpr span first(std::size_t count) const noexcept { return {first_, count}; }
    [[nodiscard]] constexpr span last(std::size_t count) const noexcept {
        return {first_ + (count_ - count), count};
    }
    /// @}

private:
    T* first_ = nullptr;
    std::size_t count_ = 0;
};

/// @{
/// The elements of what they are made of.
template <class T>
span(T*, std::size_t) -> span<T>;
template <class T, std::size_t Count>
span(T (&)[Count]) -> span<T>;
template <class Container>
span(Container&& container) -> span<std::remove_pointer_t<decltype(container.data())>>;
/// @}

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 13
#pragma GCC diagnostic pop
#endif

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

/// @cond
// A span may outlive itself, for it owns nothing; and so it is copied into what is made of it, not
// referred to.
template <class T>
inline constexpr bool std::ranges::enable_view<safefuse::span<T>> = true;
template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<safefuse::span<T>> = true;
/// @endcond

#endif
