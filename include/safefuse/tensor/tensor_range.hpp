// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: range-based loops over a tensor set: its tensors, and their names alone.
#ifndef SAFEFUSE_TENSOR_TENSOR_RANGE_HPP
#define SAFEFUSE_TENSOR_TENSOR_RANGE_HPP

#include <cstddef>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/index_iterator.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// How an index_iterator gets a tensor of a set: its name, dtype and shape.
struct by_spec {
    /// Tensor i.
    template <class Set>
    constexpr tensor_spec operator()(const Set& set, std::size_t i) const noexcept {
        return set.spec(i);
    }
};
/// How an index_iterator gets the name of a tensor of a set.
struct by_name {
    /// The name of tensor i.
    template <class Set>
    constexpr std::string_view operator()(const Set& set, std::size_t i) const noexcept {
        return set.spec(i).name;
    }
};

/// An iterator over the tensors of a set.
///   lifetime  as long as the set stays where it is
template <class Set>
using tensor_iterator = index_iterator<Set, by_spec>;

/// The names of the tensors of a set, in its order.
///   lifetime  as long as the set stays where it is
template <class Set>
class tensor_names {
public:
    /// Refers to the set.
    explicit constexpr tensor_names(const Set& set SAFEFUSE_LIFETIMEBOUND) noexcept : set_{&set} {}
    /// A set that ends with the expression has no names to loop over.
    explicit tensor_names(const Set&&) = delete;

    /// How many names there are.
    [[nodiscard]] constexpr std::size_t size() const noexcept { return set_->size(); }
    /// The name of tensor i.
    [[nodiscard]] constexpr std::string_view operator[](std::size_t i) const noexcept {
        return set_->spec(i).name;
    }
    /// @{
    /// For range-based loops.
    [[nodiscard]] constexpr index_iterator<Set, by_name> begin() const noexcept {
        return {*set_, 0};
    }
    [[nodiscard]] constexpr index_iterator<Set, by_name> end() const noexcept {
        return {*set_, size()};
    }
    /// @}

private:
    const Set* set_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
