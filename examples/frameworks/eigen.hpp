// Eigen: fuse into row-major matrices and tensors, and map tensors of a checkpoint without a copy.
// Copy what you need.
#pragma once

#include <array>
#include <complex>
#include <cstdint>
#include <span>

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>

#include <safefuse/tensor/tensor_traits.hpp>

// clang-format off
// The dtypes that Eigen has a type for, beside those of the language.
template <> inline constexpr bool safefuse::has_dtype<Eigen::half> = true;
template <> inline constexpr safefuse::dtype safefuse::dtype_of<Eigen::half> = safefuse::dtype::f16;
template <> inline constexpr bool safefuse::has_dtype<Eigen::bfloat16> = true;
template <>
inline constexpr safefuse::dtype safefuse::dtype_of<Eigen::bfloat16> = safefuse::dtype::bf16;
template <> inline constexpr bool safefuse::has_dtype<std::complex<float>> = true;
template <>
inline constexpr safefuse::dtype safefuse::dtype_of<std::complex<float>> = safefuse::dtype::c64;
// clang-format on

/// A matrix, or a map of one, whose rows are contiguous in memory.
template <class Matrix>
    requires requires(const Matrix& m) {
        m.innerStride(), m.outerStride(), Matrix::IsVectorAtCompileTime;
    } && (Matrix::IsRowMajor != 0) && safefuse::has_dtype<typename Matrix::Scalar>
struct safefuse::tensor_traits<Matrix> {
    static std::span<std::byte> bytes(Matrix& m) {
        if (m.size() != 0 && (m.innerStride() != 1 || m.outerStride() != m.cols())) return {};
        return std::as_writable_bytes(std::span{m.data(), static_cast<std::size_t>(m.size())});
    }
    static dtype type(const Matrix&) { return dtype_of<typename Matrix::Scalar>; }
    static std::array<std::uint64_t, 2> shape(const Matrix& m) {
        return {static_cast<std::uint64_t>(m.rows()), static_cast<std::uint64_t>(m.cols())};
    }
};

/// A tensor of any rank, row-major.
template <class T, int Rank, class Index>
    requires safefuse::has_dtype<T>
struct safefuse::tensor_traits<Eigen::Tensor<T, Rank, Eigen::RowMajor, Index>> {
    using tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor, Index>;
    static std::span<std::byte> bytes(tensor& t) {
        return std::as_writable_bytes(std::span{t.data(), static_cast<std::size_t>(t.size())});
    }
    static dtype type(const tensor&) { return dtype_of<T>; }
    static auto shape(const tensor& t) {
        std::array<std::uint64_t, std::size_t{Rank}> extents{};
        for (std::size_t axis = 0; axis < extents.size(); ++axis)
            extents[axis] = static_cast<std::uint64_t>(t.dimension(axis));
        return extents;
    }
};

namespace adapt {

/// A view of rank `Rank` as an Eigen tensor, without a copy.
///   fails   as tensor_view::as; shape_mismatch
template <class T, int Rank>
safefuse::result<Eigen::TensorMap<Eigen::Tensor<const T, Rank, Eigen::RowMajor>>> eigen_tensor(
    const safefuse::tensor_view& view) {
    const auto values = view.as<T>();
    if (!values) return values.error();
    if (view.rank() != Rank)
        return safefuse::failure{
            .code = safefuse::errc::shape_mismatch, .expected = Rank, .actual = view.rank()};
    Eigen::array<Eigen::Index, std::size_t{Rank}> extents{};
    for (std::size_t axis = 0; axis < extents.size(); ++axis)
        extents[axis] = static_cast<Eigen::Index>(view.shape()[axis]);
    return Eigen::TensorMap<Eigen::Tensor<const T, Rank, Eigen::RowMajor>>{values->data(), extents};
}

template <class T>
using eigen_map =
    Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

/// A view of rank 2 as an Eigen matrix, without a copy.
///   fails   as tensor_view::as; shape_mismatch
template <class T>
safefuse::result<eigen_map<T>> eigen_matrix(const safefuse::tensor_view& view) {
    const auto values = view.as<T>();
    if (!values) return values.error();
    if (view.rank() != 2)
        return safefuse::failure{
            .code = safefuse::errc::shape_mismatch, .expected = 2, .actual = view.rank()};
    return eigen_map<T>{values->data(), static_cast<Eigen::Index>(view.shape()[0]),
                        static_cast<Eigen::Index>(view.shape()[1])};
}

}  // namespace adapt
