// ggml: fuse into ggml_tensors, and plan from them. ggml's ne has the innermost extent first.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <ggml.h>

#include <safefuse/tensor/tensor_traits.hpp>

namespace adapt {

/// A ggml_tensor in host memory, and its rank, because ggml does not keep leading extents of 1.
struct ggml_rank {
    ggml_tensor* tensor;
    int rank;
};

// The ggml types that are dtypes of safetensors. All others are blocks of ggml's own.
inline bool ggml_type_of(safefuse::dtype type, enum ggml_type& found) {
    using enum safefuse::dtype;
    switch (type) {
    case f32: found = GGML_TYPE_F32; return true;
    case f16: found = GGML_TYPE_F16; return true;
    case bf16: found = GGML_TYPE_BF16; return true;
    case f64: found = GGML_TYPE_F64; return true;
    case i8: found = GGML_TYPE_I8; return true;
    case i16: found = GGML_TYPE_I16; return true;
    case i32: found = GGML_TYPE_I32; return true;
    case i64: found = GGML_TYPE_I64; return true;
    default: return false;
    }
}
inline bool find_dtype(enum ggml_type wanted, safefuse::dtype& type) {
    for (std::size_t i = 0; i < safefuse::dtype_count; ++i) {
        enum ggml_type found {};
        type = static_cast<safefuse::dtype>(i);
        if (ggml_type_of(type, found) && found == wanted) return true;
    }
    return false;
}

/// ggml's extents of a shape: reversed, padded with 1.
///   fails   shape_mismatch (more than four)
inline safefuse::result<std::array<std::int64_t, GGML_MAX_DIMS>> ggml_extents(
    safefuse::shape_view shape) {
    if (shape.size() > GGML_MAX_DIMS)
        return safefuse::failure{.code = safefuse::errc::shape_mismatch,
                                 .expected = GGML_MAX_DIMS,
                                 .actual = shape.size()};
    std::array<std::int64_t, GGML_MAX_DIMS> ne;
    ne.fill(1);
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
        ne[axis] = static_cast<std::int64_t>(shape[shape.size() - 1 - axis]);
    return ne;
}

}  // namespace adapt

/// Tensors that are not contiguous, not in host memory or of a ggml block type report no bytes, so
/// using them fails.
template <>
struct safefuse::tensor_traits<adapt::ggml_rank> {
    static std::span<std::byte> bytes(adapt::ggml_rank& t) {
        dtype type{};
        if (t.tensor->data == nullptr || !ggml_is_contiguous(t.tensor) ||
            !adapt::find_dtype(t.tensor->type, type))
            return {};
        return {static_cast<std::byte*>(t.tensor->data), ggml_nbytes(t.tensor)};
    }
    static dtype type(const adapt::ggml_rank& t) {
        dtype type{};
        return adapt::find_dtype(t.tensor->type, type) ? type : dtype::boolean;
    }
    static std::vector<std::uint64_t> shape(const adapt::ggml_rank& t) {
        std::vector<std::uint64_t> extents;
        for (int axis = t.rank; axis-- != 0;)
            extents.push_back(static_cast<std::uint64_t>(t.tensor->ne[axis]));
        return extents;
    }
};
