// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs a plan into memory. Each byte is copied once; positional sources with strided
// copies or with something to compare use one buffer of at most fuse_buffer_bytes, everything else
// none.
#ifndef SAFEFUSE_RUN_FUSE_HPP
#define SAFEFUSE_RUN_FUSE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/execute.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The most memory that fusing takes beside the output.
inline constexpr std::size_t fuse_buffer_bytes = detail::read_buffer_bytes;

/// Buffers for all outputs of a plan, of another type than span<std::byte>: std::span, say, or a
/// vector each.
template <class Buffers>
concept buffer_list =
    !std::convertible_to<Buffers&, span<const span<std::byte>>> && requires(Buffers& buffers) {
        { span{buffers}[0] } -> std::convertible_to<span<std::byte>>;
    };

/// Makes all outputs of a plan at once, reading the sources front to back. `buffers[i]` is for
/// plan.outputs()[i]; an empty buffer leaves that output out.
///   fails   wrong_buffer_size (nothing is written then), file_changed (a mapped file has another
///   size now: each is checked once,
///           before the first byte is copied from it), parts_differ (the plan's equal_blocks are
///           not), and as reading the sources does (buffers may be part-written)
inline result<void> fuse(const copy_plan& plan, span<const span<std::byte>> buffers) noexcept {
    if (auto fit = detail::check_buffers(plan, buffers); !fit) return fit;
    return detail::run_plan(plan, detail::output_memory{buffers});
}
/// The same.
template <buffer_list Buffers>
result<void> fuse(const copy_plan& plan, Buffers&& buffers) noexcept {
    vector<span<std::byte>> list;
    for (auto& each : span{buffers})
        if (!list.push(each)) return failure{.code = errc::out_of_memory};
    return fuse(plan, list.view());
}

/// Makes one output of a plan. `out` has exactly its size.
///   fails   output_not_found, wrong_buffer_size (nothing is written then), and as reading the
///   sources does (`out` may be part-written)
inline result<void> fuse(const copy_plan& plan, std::string_view local_name,
                         span<std::byte> out) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (out.size() != output->size_bytes)
        return failure{.code = errc::wrong_buffer_size,
                       .tensor = text{output->name},
                       .expected = output->size_bytes,
                       .actual = out.size()};
    const auto number = static_cast<std::uint32_t>(plan.index_of(local_name));
    return detail::run_plan(plan, {number, out.data()});
}

/// Makes one output of a plan in a tensor of a framework's own, whose dtype and shape must be the
/// output's.
///   fails   dtype_mismatch, shape_mismatch (nothing is written then), and as above
template <writable_tensor T>
result<void> fuse(const copy_plan& plan, std::string_view local_name, T& tensor) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (tensor_traits<T>::type(tensor) != output->type)
        return failure{.code = errc::dtype_mismatch,
                       .tensor = text{output->name},
                       .detail = text{name(output->type)}};
    const auto& shape = tensor_traits<T>::shape(tensor);
    if (!detail::same_shape(shape, output->shape))
        return failure{.code = errc::shape_mismatch,
                       .tensor = text{output->name},
                       .detail = "the tensor to fuse into has another shape"};
    return fuse(plan, local_name, span<std::byte>{tensor_traits<T>::bytes(tensor)});
}
/// What a call with another type gets: a sentence that says what is missing, in place of a list of
/// candidates.
template <class T>
    requires(!writable_tensor<T> && !std::convertible_to<T&, span<std::byte>>)
result<void> fuse(const copy_plan&, std::string_view, T&) noexcept {
    static_assert(
        writable_tensor<T>,
        "safefuse: fuse writes to a span, vector or array of std::byte, or to a type that tensor_traits is specialised for");
    return {};
}

/// An output that need not be made because it lies in one piece in memory: fused already, or a
/// single expert's matrix.
///   lifetime  the view's bytes are the source's, its shape the plan's
///   fails   output_not_found, not_resident (it must be copied together, or read)
[[nodiscard]] inline result<tensor_view> view(const copy_plan& plan SAFEFUSE_LIFETIMEBOUND,
                                              std::string_view local_name) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (output->size_bytes == 0) return tensor_view::of(output->type, output->shape, {});
    const copy_block* const run = plan.single_run(plan.index_of(local_name));
    const span<const std::byte> resident =
        run == nullptr ? span<const std::byte>{} : plan.set().source_bytes(run->source);
    if (resident.empty() ||
        !detail::lies_inside(run->source_offset, run->run_bytes, resident.size()))
        return failure{.code = errc::not_resident, .tensor = text{output->name}};
    return tensor_view::of(output->type, output->shape,
                           resident.subspan(static_cast<std::size_t>(run->source_offset),
                                            static_cast<std::size_t>(run->run_bytes)));
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
