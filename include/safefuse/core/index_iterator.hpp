// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: range-based loops over whatever gives its elements by number.
#ifndef SAFEFUSE_CORE_INDEX_ITERATOR_HPP
#define SAFEFUSE_CORE_INDEX_ITERATOR_HPP

#include <cstddef>
#include <utility>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// How an index_iterator gets an element: by operator[].
struct by_index {
    /// Element i.
    template <class Of>
    constexpr auto operator()(const Of& of, std::size_t i) const noexcept {
        return of[i];
    }
};

/// An iterator over elements that are made when they are asked for.
///   lifetime  as long as what it iterates over stays where it is
template <class Of, class Get = by_index>
class index_iterator {
public:
    /// @{
    /// As iterators call it.
    using value_type = decltype(Get{}(std::declval<const Of&>(), std::size_t{}));
    using difference_type = std::ptrdiff_t;
    /// @}

    constexpr index_iterator() noexcept = default;
    /// Element i of `of`.
    constexpr index_iterator(const Of& of SAFEFUSE_LIFETIMEBOUND, std::size_t i) noexcept
        : of_{&of}, i_{i} {}

    /// The element, by value.
    [[nodiscard]] constexpr value_type operator*() const noexcept { return Get{}(*of_, i_); }
    /// @{
    /// To the next.
    constexpr index_iterator& operator++() noexcept {
        ++i_;
        return *this;
    }
    constexpr index_iterator operator++(int) noexcept {
        const index_iterator before = *this;
        ++i_;
        return before;
    }
    /// @}
    /// Whether both are at the same element.
    friend constexpr bool operator==(const index_iterator& a, const index_iterator& b) noexcept {
        return a.i_ == b.i_;
    }

private:
    const Of* of_ = nullptr;
    std::size_t i_ = 0;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
