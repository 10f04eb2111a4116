// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: makes the list of a model's tensors: the outputs of every scope's plan, then all
// tensors that no plan reads, under their new names.
#ifndef SAFEFUSE_PLAN_DETAIL_MODEL_ACCESS_HPP
#define SAFEFUSE_PLAN_DETAIL_MODEL_ACCESS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/natural_order.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/engine.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/layout/rename.hpp>
#include <safefuse/plan/model_tensors.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Largest number of tensors that plans may make beyond the number that they read, five times as
/// many as in any known model. A file can claim a huge number of experts in a few bytes, and each
/// tensor takes memory here.
inline constexpr std::uint64_t most_claimed_tensors = std::uint64_t{1} << 20;

/// Constructs a model_tensors, as a friend.
struct model_access {
    static model_tensors begin(const tensor_set_ref& set, const family_description& family,
                               const engine_entry* engine, const plan_options& options) noexcept {
        return model_tensors{set, family, engine, options};
    }
    static vector<tensor_spec>& tensors(model_tensors& of) noexcept { return of.tensors_; }
    static vector<tensor_origin>& origins(model_tensors& of) noexcept { return of.origins_; }
    static experts_scopes& scopes(model_tensors& of) noexcept { return of.scopes_; }
    static const family_description& family(const model_tensors& of) noexcept { return of.family_; }

    static result<void> add(model_tensors& to, std::string_view name, dtype type, shape_view shape,
                            std::uint64_t size_bytes, tensor_origin from) noexcept;
    static result<void> add_as_it_is(model_tensors& to, std::size_t i,
                                     std::string_view name) noexcept;
    static result<void> add_outputs(model_tensors& to, vector<bool>& consumed,
                                    bool& any_to_rename) noexcept;
    static result<void> sort(model_tensors& of) noexcept;
    static result<model_tensors> make(const tensor_set_ref& set, const family_description& family,
                                      const engine_entry* engine, const plan_options& options,
                                      experts_scopes&& scopes) noexcept;
};

inline result<void> model_access::add(model_tensors& to, std::string_view name, dtype type,
                                      shape_view shape, std::uint64_t size_bytes,
                                      tensor_origin from) noexcept {
    // sparse files take no disk space, so several can claim more than 2^64 bytes together
    if (!checked_add(to.total_bytes_, size_bytes, to.total_bytes_))
        return failure{
            .code = errc::size_overflow, .tensor = text{name}, .detail = "the sum of all tensors"};
    // sort() sets the pointers after all names and shapes are added; until then only the sizes are
    // valid
    if (to.arena_.append(name.data(), name.size()) &&
        to.extents_.append(shape.data(), shape.size()) && to.tensors_.push({name, type, shape}) &&
        to.origins_.push(from))
        return {};
    return detail::lack_of_memory{};
}

/// Adds tensor i of the set unchanged. Fails if its size does not fit its dtype and shape.
inline result<void> model_access::add_as_it_is(model_tensors& to, std::size_t i,
                                               std::string_view name) noexcept {
    const tensor_spec spec = to.set_.spec(i);
    const tensor_location place = to.set_.place(i);
    std::uint64_t size_bytes = 0, end = 0;
    if (tensor_size(spec.type, spec.shape, size_bytes) != size_verdict::fits ||
        size_bytes != place.size_bytes || !checked_add(place.offset, place.size_bytes, end))
        return failure{.code = errc::size_mismatch,
                       .file = text{to.set_.source_name(place.source)},
                       .tensor = text{spec.name},
                       .expected = size_bytes,
                       .actual = place.size_bytes};
    return add(to, name, spec.type, spec.shape, size_bytes,
               {tensor_origin::passthrough, static_cast<std::uint32_t>(i)});
}

/// Adds the outputs of all scopes.
///   consumed   by tensor of the set: whether a plan reads it
inline result<void> model_access::add_outputs(model_tensors& to, vector<bool>& consumed,
                                              bool& any_to_rename) noexcept {
    std::uint64_t claimed = 0;  // each plan has far fewer outputs than 2^32
    for (std::uint32_t s = 0; s < to.scopes_.size(); ++s) {
        auto plan = to.plan_of(s);
        if (!plan && to.options_.keep_unknown && plan.error().code == errc::unexpected_key)
            continue;
        if (!plan) return std::move(plan).error();
        any_to_rename = any_to_rename || plan->source_form() == scope_state::pending;
        const std::size_t made = plan->outputs().size(), taken = plan->source_tensors().size();
        claimed += made > taken ? made - taken : 0;
        if (claimed > most_claimed_tensors)
            return failure{
                .code = errc::shape_mismatch,
                .scope = text{plan->scope()},
                .detail = "the shapes of the experts claim too many tensors, all scopes together",
                .expected = most_claimed_tensors,
                .actual = claimed};
        for (const std::uint32_t tensor : plan->source_tensors()) consumed[tensor] = true;
        for (std::uint32_t o = 0; o < plan->outputs().size(); ++o) {
            const plan_output& output = plan->outputs()[o];
            if (auto added =
                    add(to, output.name, output.type, output.shape, output.size_bytes, {s, o});
                !added)
                return added;
        }
    }
    return {};
}

inline result<void> model_access::sort(model_tensors& of) noexcept {
    constexpr detail::lack_of_memory no_memory;
    const char* characters = of.arena_.data();
    const std::uint64_t* extents = of.extents_.data();
    for (tensor_spec& each : of.tensors_) {
        each.name = characters_at(characters, each.name.size());
        each.shape = {extents, each.shape.size()};
        characters += each.name.size();
        extents += each.shape.size();
    }
    vector<std::uint32_t> order;
    if (!order.reserve(of.tensors_.size())) return no_memory;
    for (std::uint32_t i = 0; i < of.tensors_.size(); ++i) static_cast<void>(order.push(i));
    if (!detail::sort(order.view(), [&](std::uint32_t a, std::uint32_t b) noexcept {
            return natural_less(of.tensors_[a].name, of.tensors_[b].name);
        }))
        return no_memory;
    vector<tensor_spec> tensors;
    vector<tensor_origin> origins;
    for (const std::uint32_t i : order)
        if (!tensors.push(of.tensors_[i]) || !origins.push(of.origins_[i])) return no_memory;
    for (std::size_t i = 1; i < tensors.size(); ++i)
        if (tensors[i].name == tensors[i - 1].name)
            return failure{.code = errc::duplicate_tensor,
                           .tensor = text{tensors[i].name},
                           .detail = "two tensors would get this name"};
    of.tensors_ = std::move(tensors);
    of.origins_ = std::move(origins);
    return {};
}

/// Plans all `scopes` of the set. Lists their outputs and all other tensors.
///   fails   duplicate_tensor, size_mismatch, size_overflow, shape_mismatch, out_of_memory, and as
///           `plan` of a scope
inline result<model_tensors> model_access::make(const tensor_set_ref& set,
                                                const family_description& family,
                                                const engine_entry* engine,
                                                const plan_options& options,
                                                experts_scopes&& scopes) noexcept {
    model_tensors out = begin(set, family, engine, options);
    out.scopes_ = std::move(scopes);
    vector<bool> consumed;
    if (!consumed.resize(set.size(), false)) return detail::lack_of_memory{};
    bool any_to_rename = family.module_at(0).is_same() || out.scopes_.passed_count() != 0;
    if (auto added = add_outputs(out, consumed, any_to_rename); !added)
        return std::move(added).error();
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (consumed[i]) continue;
        const tensor_spec spec = set.spec(i);
        // if all experts already have the new form, so do the names, except those that an older
        // version wrote differently
        auto name =
            any_to_rename ? renamed(family, spec.name) : renamed_always(family.renames, spec.name);
        if (!name) return std::move(name).error();
        if (auto added = add_as_it_is(out, i, *name); !added) return std::move(added).error();
    }
    if (auto sorted = sort(out); !sorted) return std::move(sorted).error();
    return out;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
