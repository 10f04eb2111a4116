// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: how plans access the tensor type of a framework.
#ifndef SAFEFUSE_TENSOR_TENSOR_TRAITS_HPP
#define SAFEFUSE_TENSOR_TENSOR_TRAITS_HPP

#include <concepts>
#include <cstddef>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Specialise this for your own tensor type before its first use, with three static functions:
///   span<std::byte> bytes(T&)  its storage, contiguous and row-major
///   dtype type(const T&)       its element type
///   X shape(const T&)          its extents, outermost first; X converts to shape_view and may be a
///                              temporary
template <class T>
struct tensor_traits;

/// A tensor that plans can write to: tensor_traits is specialised for it.
template <class T>
concept writable_tensor = requires(T& tensor, const T& constant) {
    { tensor_traits<T>::bytes(tensor) } -> std::convertible_to<span<std::byte>>;
    { tensor_traits<T>::type(constant) } -> std::same_as<dtype>;
    { tensor_traits<T>::shape(constant) } -> std::convertible_to<shape_view>;
};

/// A view of a framework's tensor, for example to put into a tensor_list. `shape` must be what
/// tensor_traits<T>::shape returns.
///   lifetime  the view points into `tensor` and to `shape`; the caller keeps both alive
///   fails   as tensor_view::of
template <writable_tensor T>
[[nodiscard]] result<tensor_view> view_of(T& tensor SAFEFUSE_LIFETIMEBOUND,
                                          shape_view shape SAFEFUSE_LIFETIMEBOUND) noexcept {
    return tensor_view::of(tensor_traits<T>::type(tensor), shape,
                           span<const std::byte>{tensor_traits<T>::bytes(tensor)});
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
