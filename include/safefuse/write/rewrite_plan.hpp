// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what a rewritten checkpoint will hold: every tensor by its new name, and where its
// bytes come from. Made from names, dtypes and shapes alone; rewrite.hpp carries it out.
#ifndef SAFEFUSE_WRITE_REWRITE_PLAN_HPP
#define SAFEFUSE_WRITE_REWRITE_PLAN_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/unknown_experts.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/engine.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {
class plan_repacker;

/// How many tensors more than the source has may come of what its shapes claim, five times as many
/// as of any model: a claim costs a file next to nothing, and each tensor takes memory here.
inline constexpr std::uint64_t most_claimed_tensors = std::uint64_t{1} << 20;
}  // namespace detail

/// Every tensor of the checkpoint to come, and where its bytes come from; made from names, dtypes
/// and shapes alone.
///   lifetime  the tensor set must outlive it and may be moved, as with copy_plan
class rewrite_plan {
public:
    /// Where a tensor comes from: tensor `number` of the set as it is, or output `number` of the
    /// plan of a scope.
    struct origin {
        std::uint32_t scope = passthrough;  ///< number of a scope, or passthrough
        std::uint32_t number =
            0;  ///< of the tensor in the set, or of the output in the scope's plan
    };
    /// The scope of tensors that are of none.
    static constexpr std::uint32_t passthrough = ~std::uint32_t{0};

    /// Plans all scopes of the set. `options` hold for each of them; their destination_scope is
    /// ignored. Where nothing is to be fused, all tensors stay as they are.
    ///   fails   unknown_experts (what looks like an expert is in no scope: options.keep_unknown
    ///   passes it through, and scopes with
    ///           leftovers as well), duplicate_tensor (two tensors get one name), size_mismatch (of
    ///           the set's own making), size_overflow (of all tensors together), shape_mismatch
    ///           (more than a million tensors would come of what shapes claim), and as `plan` of a
    ///           scope
    static result<rewrite_plan> make(tensor_set_ref set, const family_description& family,
                                     const plan_options& options = {}) noexcept;

    /// The same for an engine: experts in its layout and under its names, everything else as the
    /// hub has it. `unfuse` is the family from the model to the hub; the set may be in either form.
    ///   lifetime  the engine must stay where it is, too
    ///   fails   as `make`, and as `plan` for an engine
    static result<rewrite_plan> make(tensor_set_ref set, const family_description& unfuse,
                                     const engine_entry& engine,
                                     const plan_options& options = {}) noexcept {
        return make_for(set, unfuse, &engine, options);
    }

    /// The tensors to come, in natural order of their names (layer 2 before layer 10).
    [[nodiscard]] span<const tensor_spec> tensors() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensors_.view();
    }
    /// Where tensor i of tensors() comes from.
    [[nodiscard]] origin origin_of(std::size_t i) const noexcept { return origins_[i]; }
    /// The scopes that are planned.
    [[nodiscard]] const experts_scopes& scopes() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return scopes_;
    }
    /// The sum of the bytes of all tensors to come.
    [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_bytes_; }
    /// The tensors that it was planned from.
    [[nodiscard]] const tensor_set_ref& set() const noexcept SAFEFUSE_LIFETIMEBOUND { return set_; }
    /// For write_options: which tensors are to lie in one file, one behind the other, and where the
    /// data of each file begins. Only a plan that repack_plan made asks for either.
    [[nodiscard]] span<const std::uint32_t> groups() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return groups_.view();
    }
    /// Bytes; 8 is what every file has.
    [[nodiscard]] std::uint64_t data_alignment() const noexcept { return data_alignment_; }
    /// The plan of a scope, made anew at each call: all of them at once would be as large as the
    /// headers.
    [[nodiscard]] result<copy_plan> plan_of(std::uint32_t scope) const noexcept {
        if (engine_ != nullptr) return plan(set_, scopes_[scope], *family_, *engine_, options_);
        return plan(set_, scopes_[scope], *family_, direction::forward, options_);
    }

private:
    friend class detail::plan_repacker;
    explicit rewrite_plan(tensor_set_ref set, const family_description& family,
                          const plan_options& options) noexcept
        : set_{set}, family_{&family}, options_{options} {
        options_.destination_scope = {};
    }

    result<void> add(std::string_view name, dtype type, shape_view shape, std::uint64_t size_bytes,
                     origin from) noexcept {
        // files with holes cost nothing, so that several may claim more than 2^64 bytes
        if (!detail::checked_add(total_bytes_, size_bytes, total_bytes_))
            return failure{.code = errc::size_overflow,
                           .tensor = text{name},
                           .detail = "of all tensors together"};
        // the pointers are set when all names and shapes are there; until then only the sizes count
        if (arena_.append(name.data(), name.size()) &&
            extents_.append(shape.data(), shape.size()) && tensors_.push({name, type, shape}) &&
            origins_.push(from))
            return {};
        return failure{.code = errc::out_of_memory};
    }
    /// Adds tensor i of the set as it is, whose place must be what its dtype and shape ask for.
    result<void> add_as_it_is(std::size_t i, std::string_view name) noexcept {
        const tensor_spec spec = set_.spec(i);
        const tensor_location place = set_.place(i);
        std::uint64_t size_bytes = 0, end = 0;
        if (tensor_size(spec.type, spec.shape, size_bytes) != size_verdict::fits ||
            size_bytes != place.size_bytes ||
            !detail::checked_add(place.offset, place.size_bytes, end))
            return failure{.code = errc::size_mismatch,
                           .file = text{set_.source_name(place.source)},
                           .tensor = text{spec.name},
                           .expected = size_bytes,
                           .actual = place.size_bytes};
        return add(name, spec.type, spec.shape, size_bytes,
                   {passthrough, static_cast<std::uint32_t>(i)});
    }
    static result<rewrite_plan> make_for(tensor_set_ref set, const family_description& family,
                                         const engine_entry* engine,
                                         const plan_options& options) noexcept;
    /// Adds the outputs of scope s, and says which tensors of the set they are made of.
    result<void> add_outputs(std::uint32_t s, const copy_plan& plan,
                             vector<bool>& consumed) noexcept {
        for (const std::uint32_t tensor : plan.source_tensors()) consumed[tensor] = true;
        for (std::uint32_t o = 0; o < plan.outputs().size(); ++o) {
            const plan_output& output = plan.outputs()[o];
            if (auto added = add(output.name, output.type, output.shape, output.size_bytes, {s, o});
                !added)
                return added;
        }
        return {};
    }
    result<void> sort() noexcept;

    tensor_set_ref set_;
    const family_description* family_;
    const engine_entry* engine_ = nullptr;
    plan_options options_;
    experts_scopes scopes_;
    vector<tensor_spec> tensors_;
    vector<origin> origins_;
    vector<char> arena_;
    vector<std::uint64_t> extents_;
    vector<std::uint32_t> groups_;
    std::uint64_t data_alignment_ = 8;
    std::uint64_t total_bytes_ = 0;
};

inline result<rewrite_plan> rewrite_plan::make(tensor_set_ref set, const family_description& family,
                                               const plan_options& options) noexcept {
    return make_for(set, family, nullptr, options);
}

inline result<rewrite_plan> rewrite_plan::make_for(tensor_set_ref set,
                                                   const family_description& family,
                                                   const engine_entry* engine,
                                                   const plan_options& options) noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    rewrite_plan out{set, family, options};
    out.engine_ = engine;
    auto scopes = experts_scopes::find(set, family);
    if (!scopes) return std::move(scopes).error();
    if (!options.keep_unknown) {
        const auto strangers = find_unknown_experts(set, *scopes);
        if (!strangers) return strangers.error();
        if (strangers->count != 0) return describe(set, *strangers, family);
    }
    out.scopes_ = std::move(*scopes);

    vector<bool> consumed;
    if (!consumed.resize(set.size(), false)) return no_memory;
    bool any_to_rename = family.module_at(0).is_same() || out.scopes_.passed_count() != 0;
    std::uint64_t claimed = 0;  // each plan has far fewer outputs than 2^32
    for (std::uint32_t s = 0; s < out.scopes_.size(); ++s) {
        auto plan = out.plan_of(s);
        if (!plan && options.keep_unknown && plan.error().code == errc::unexpected_key) continue;
        if (!plan) return std::move(plan).error();
        any_to_rename = any_to_rename || plan->source_form() == scope_state::pending;
        const std::size_t made = plan->outputs().size(), taken = plan->source_tensors().size();
        claimed += made > taken ? made - taken : 0;
        if (claimed > detail::most_claimed_tensors)
            return failure{
                .code = errc::shape_mismatch,
                .scope = text{plan->scope()},
                .detail = "the shapes of the experts claim too many tensors, all scopes together",
                .expected = detail::most_claimed_tensors,
                .actual = claimed};
        if (auto added = out.add_outputs(s, *plan, consumed); !added)
            return std::move(added).error();
    }
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (consumed[i]) continue;
        const tensor_spec spec = set.spec(i);
        // where all experts are in the new form already, so are the names, but for what an older
        // version called otherwise
        auto name =
            any_to_rename ? renamed(family, spec.name) : renamed_always(family.renames, spec.name);
        if (!name) return std::move(name).error();
        if (auto added = out.add_as_it_is(i, *name); !added) return std::move(added).error();
    }
    if (auto sorted = out.sort(); !sorted) return std::move(sorted).error();
    return out;
}

inline result<void> rewrite_plan::sort() noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    const char* characters = arena_.data();
    const std::uint64_t* extents = extents_.data();
    for (tensor_spec& each : tensors_) {
        each.name = detail::characters_at(characters, each.name.size());
        each.shape = {extents, each.shape.size()};
        characters += each.name.size();
        extents += each.shape.size();
    }
    vector<std::uint32_t> order;
    if (!order.reserve(tensors_.size())) return no_memory;
    for (std::uint32_t i = 0; i < tensors_.size(); ++i) static_cast<void>(order.push(i));
    if (!detail::sort(order.view(), [&](std::uint32_t a, std::uint32_t b) noexcept {
            return natural_less(tensors_[a].name, tensors_[b].name);
        }))
        return no_memory;
    vector<tensor_spec> tensors;
    vector<origin> origins;
    for (const std::uint32_t i : order)
        if (!tensors.push(tensors_[i]) || !origins.push(origins_[i])) return no_memory;
    for (std::size_t i = 1; i < tensors.size(); ++i)
        if (tensors[i].name == tensors[i - 1].name)
            return failure{.code = errc::duplicate_tensor,
                           .tensor = text{tensors[i].name},
                           .detail = "two tensors would get this name"};
    tensors_ = std::move(tensors);
    origins_ = std::move(origins);
    return {};
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
