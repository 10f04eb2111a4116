// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a view of contiguous elements that something else owns: bytes, extents, table entries.
// It converts from and to std::span. It is not std::span because <span> would take a fifth of the
// time that this library takes to compile.
#ifndef SAFEFUSE_CORE_SPAN_HPP
#define SAFEFUSE_CORE_SPAN_HPP

#include <cstddef>
#include <string_view>  // which declares enable_borrowed_range
#include <type_traits>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

// g++ assumes that what a member function of a temporary returns is part of that temporary. It
// makes an exception only for std::span.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-reference"
#endif

/// A view of contiguous elements. Arrays, vectors and spans of the same elements convert to it,
/// with or without const added. It converts to std::span.
///   lifetime  the owner keeps the elements alive
template <class T>
class span {
public:
    /// The name that containers use.
    using value_type = std::remove_cv_t<T>;
    /// The name that containers use.
    using iterator = T*;

    constexpr span() noexcept = default;
    /// The `count` elements from `first` on.
    constexpr span(T* first, std::size_t count) noexcept : first_{first}, count_{count} {}
    /// Keeps `{0, 3}` from meaning (nullptr, 3).
    span(int, std::size_t) = delete;
    /// All elements of an array.
    template <std::size_t Count>
    constexpr span(T (&elements)[Count]) noexcept : first_{elements}, count_{Count} {}
    /// Whatever has data() and size() of its own elements; what is to be written to, nothing that
    /// ends with the expression.
    template <class Container>
        requires requires(Container& container) {
            requires !std::is_same_v<std::remove_cvref_t<Container>, span>;
            requires std::is_const_v<T> || std::is_lvalue_reference_v<Container> ||
                         std::ranges::enable_borrowed_range<std::remove_cv_t<Container>>;
            // Allows adding const, but no conversion to void or to a base class. (Not
            // std::is_convertible: that is instantiated for each type, which takes longer to
            // compile.)
            requires __is_assignable(T* const*&, decltype(container.data()) const*);
            static_cast<std::size_t>(container.size());
        }
    constexpr span(Container&& container) noexcept
        : first_{container.data()}, count_{static_cast<std::size_t>(container.size())} {}

    /// The first element; may be null if the span is empty.
    [[nodiscard]] constexpr T* data() const noexcept { return first_; }
    /// The number of elements.
    [[nodiscard]] constexpr std::size_t size() const noexcept { return count_; }
    /// The size of the elements in bytes.
    [[nodiscard]] constexpr std::size_t size_bytes() const noexcept { return count_ * sizeof(T); }
    /// Whether there are no elements.
    [[nodiscard]] constexpr bool empty() const noexcept { return count_ == 0; }
    /// @{
    /// For range-based loops.
    [[nodiscard]] constexpr T* begin() const noexcept { return first_; }
    [[nodiscard]] constexpr T* end() const noexcept { return first_ + count_; }
    /// @}
    /// @{
    /// An element, which must exist: nothing is checked.
    [[nodiscard]] constexpr T& operator[](std::size_t i) const noexcept { return first_[i]; }
    [[nodiscard]] constexpr T& front() const noexcept { return first_[0]; }
    [[nodiscard]] constexpr T& back() const noexcept { return first_[count_ - 1]; }
    /// @}
    /// @{
    /// `count` elements from `first` on, which must exist. Without a count, or with
    /// std::dynamic_extent, all elements from `first` on.
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
/// Deduces the element type from the constructor arguments.
template <class T>
span(T*, std::size_t) -> span<T>;
template <class T, std::size_t Count>
span(T (&)[Count]) -> span<T>;
template <class Container>
span(Container&& container) -> span<std::remove_pointer_t<decltype(container.data())>>;
/// @}

namespace detail {

/// A list that owns its elements and ends with the expression, such as a vector that a function
/// returns: what keeps a view of it deletes the call.
template <class List, class T>
concept ending_owner = !std::is_lvalue_reference_v<List> &&
                       !std::ranges::enable_borrowed_range<std::remove_cv_t<List>> &&
                       std::is_convertible_v<List, span<const T>>;

}  // namespace detail

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 13
#pragma GCC diagnostic pop
#endif

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

/// @cond
// A span owns nothing, so iterators stay valid after the span is destroyed, and range adaptors copy
// the span.
template <class T>
inline constexpr bool std::ranges::enable_view<safefuse::span<T>> = true;
template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<safefuse::span<T>> = true;
/// @endcond

#endif
