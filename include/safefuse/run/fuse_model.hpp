// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: fuses all tensors of a model into the caller's memory in one call.
#ifndef SAFEFUSE_RUN_FUSE_MODEL_HPP
#define SAFEFUSE_RUN_FUSE_MODEL_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/model_tensors.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A view of tensor i of a model, without a copy. Possible if the tensor is stored in the form that
/// the model has.
///   lifetime  the bytes belong to the source, the shape to the model
///   fails   out_of_range (the model has fewer tensors), not_resident (a plan makes the tensor, or
///           its source must be read), read_past_end
[[nodiscard]] inline result<tensor_view> view(const model_tensors& model SAFEFUSE_LIFETIMEBOUND,
                                              std::size_t i) noexcept {
    if (i >= model.size())
        return failure{.code = errc::out_of_range, .expected = model.size(), .actual = i};
    const model_tensor tensor = model[i];
    if (!tensor.from.is_stored())
        return failure{.code = errc::not_resident,
                       .tensor = text{tensor.name},
                       .detail = "it is made of several tensors"};
    if (tensor.size_bytes == 0) return tensor_view::of(tensor.type, tensor.shape, {});
    const tensor_location place = model.set().place(tensor.from.number);
    const span<const std::byte> resident = model.set().source_bytes(place.source);
    if (resident.empty()) return failure{.code = errc::not_resident, .tensor = text{tensor.name}};
    if (auto there = detail::check_resident(model.set(), place.source, resident, place.offset,
                                            place.size_bytes);
        !there)
        return std::move(there).error();
    return tensor_view::of(tensor.type, tensor.shape,
                           resident.subspan(static_cast<std::size_t>(place.offset),
                                            static_cast<std::size_t>(place.size_bytes)));
}

/// A callable that returns the memory for a tensor of a model. It is to tensors what a
/// buffer_provider is to outputs.
template <class F>
concept model_buffer_provider = requires(F& buffer_for, const model_tensor& tensor) {
    { buffer_for(tensor) } -> provided_buffer;
};

namespace detail {

/// Adds up the finished bytes of a model and reports them.
class model_watch {
public:
    model_watch(const progress_ref& progress, std::uint64_t total_bytes) noexcept
        : progress_{progress}, total_bytes_{total_bytes} {}

    /// Converts the progress of one tensor to the progress of the model, and reports it.
    bool operator()(const run_progress& at) const noexcept {
        return progress_({at.tensor, done_bytes_ + at.done_bytes, total_bytes_});
    }
    [[nodiscard]] progress_ref if_told() const noexcept {
        return progress_ ? progress_ref{*this} : progress_ref{};
    }
    void done(std::uint64_t size_bytes) noexcept { done_bytes_ += size_bytes; }

private:
    progress_ref progress_;
    std::uint64_t total_bytes_;
    std::uint64_t done_bytes_ = 0;
};

/// Reads a tensor that is stored in the form that the model has.
inline result<void> read_stored(const tensor_set_ref& set, const model_tensor& tensor,
                                span<std::byte> out, const progress_ref& progress) noexcept {
    const tensor_location place = set.place(tensor.from.number);
    for (std::size_t done = 0, piece = 0; done < out.size(); done += piece) {
        piece = out.size() - done;
        if (piece > watched_piece_bytes) piece = static_cast<std::size_t>(watched_piece_bytes);
        if (auto read = set.read(place.source, place.offset + done, out.subspan(done, piece));
            !read)
            return read;
        if (!progress({tensor.name, done + piece, out.size()}))
            return failure{.code = errc::canceled, .tensor = text{tensor.name}};
    }
    return {};
}

/// Implements fuse(model, buffer_for). `provide` takes a model_tensor and returns a
/// result<span<std::byte>>.
template <class Provide>
result<void> fuse_model(const model_tensors& model, Provide& provide,
                        const progress_ref& progress) {
    model_watch watch{progress, model.total_bytes()};
    result<copy_plan> planned{failure{}};
    std::uint32_t planned_scope = tensor_origin::passthrough;
    for (const model_tensor& tensor : model) {
        auto buffer = provide(tensor);
        if (buffer && buffer->size() != tensor.size_bytes)
            buffer = failure{.code = errc::wrong_buffer_size,
                             .expected = tensor.size_bytes,
                             .actual = buffer->size()};
        if (!buffer && buffer.error().tensor.empty()) buffer.error().tensor = text{tensor.name};
        if (!buffer) return std::move(buffer).error();
        if (!tensor.from.is_stored() && planned_scope != tensor.from.scope) {
            planned = model.plan_of(tensor.from.scope);
            if (!planned) return std::move(planned).error();
            planned_scope = tensor.from.scope;
        }
        auto made = tensor.from.is_stored()
                        ? read_stored(model.set(), tensor, *buffer, watch.if_told())
                        : fuse(*planned, planned->outputs()[tensor.from.number].local_name, *buffer,
                               watch.if_told());
        if (!made) return made;
        watch.done(tensor.size_bytes);
    }
    return {};
}

}  // namespace detail

/// Makes every tensor of a model, one by one in the order of the list. Stored tensors are read, all
/// others are fused. For each tensor, `buffer_for(tensor)` returns the memory, which must have
/// tensor.size_bytes bytes. Exceptions of the callable are passed on.
///   memory  the plan of one scope
///   fails   wrong_buffer_size (nothing of that tensor is written), canceled (progress returned
///           false), as the callable, and as `plan` of a scope, fuse and reading
template <model_buffer_provider Provider>
result<void> fuse(const model_tensors& model, Provider&& buffer_for, progress_ref progress = {}) {
    const auto provide = [&](const model_tensor& tensor) -> result<span<std::byte>> {
        if constexpr (std::convertible_to<decltype(buffer_for(tensor)), span<std::byte>>) {
            return span<std::byte>{buffer_for(tensor)};
        } else {
            auto buffer = buffer_for(tensor);
            if (!buffer) return std::move(buffer).error();
            return span<std::byte>{*std::move(buffer)};
        }
    };
    return detail::fuse_model(model, provide, progress);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
