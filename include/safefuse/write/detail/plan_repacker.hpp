// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: makes the plan of a repack.
#ifndef SAFEFUSE_WRITE_DETAIL_PLAN_REPACKER_HPP
#define SAFEFUSE_WRITE_DETAIL_PLAN_REPACKER_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/model_access.hpp>
#include <safefuse/plan/model_tensors.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/rewrite_plan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Value of the public repacked_alignment, in bytes.
inline constexpr std::uint64_t repacked_alignment = 4096;

/// Makes the plan of a repack.
class plan_repacker {
public:
    static result<rewrite_plan> make(tensor_set_ref set, const family_description& family,
                                     const plan_options& options) noexcept {
        plan_repacker maker{set, family, options};
        auto done = maker.find_groups().and_then([&] { return maker.add_tensors(); }).and_then([&] {
            return maker.put_in_order();
        });
        if (!done) return std::move(done).error();
        return std::move(maker.plan_);
    }

private:
    /// Place of a tensor of the set in its group.
    struct member {
        std::uint32_t group = detail::no_index;
        std::uint64_t offset = 0;  // in its output
    };

    plan_repacker(tensor_set_ref set, const family_description& family,
                  const plan_options& options) noexcept
        : set_{set}, plan_{model_access::begin(set, family, nullptr, options)} {}

    static failure no_memory() noexcept { return {.code = errc::out_of_memory}; }

    /// Makes a group of every output that consists of whole tensors, end to end.
    result<void> find_groups() noexcept {
        auto scopes = experts_scopes::find(set_, model_access::family(plan_.model_));
        if (!scopes) return std::move(scopes).error();
        model_access::scopes(plan_.model_) = std::move(*scopes);
        if (!members_.resize(set_.size())) return no_memory();
        for (std::uint32_t s = 0; s < plan_.scopes().size(); ++s) {
            auto plan = plan_.plan_of(s);
            if (!plan && (plan.error().code == errc::out_of_memory ||
                          plan.error().code == errc::file_changed))
                return std::move(plan).error();
            if (!plan) continue;  // tensors that cannot be planned stay as they are
            if (auto done = add_groups(*plan); !done) return done;
        }
        return {};
    }

    result<void> add_groups(const copy_plan& plan) noexcept {
        vector<bool> fits;
        if (!fits.resize(plan.outputs().size(), true)) return no_memory();
        for (const copy_block& block : plan.blocks())
            fits[block.output] = fits[block.output] && block.loop_count == 0;
        vector<std::uint64_t> found_bytes;
        if (!found_bytes.resize(plan.outputs().size(), 0)) return no_memory();
        for (const std::uint32_t tensor : plan.source_tensors()) {
            const tensor_location place = set_.place(tensor);
            for (const copy_block& block : plan.blocks()) {
                if (!fits[block.output] || block.source != place.source ||
                    place.offset < block.source_offset || place.size_bytes == 0 ||
                    place.offset + place.size_bytes > block.source_offset + block.run_bytes)
                    continue;
                members_[tensor] = {
                    group_count_ + block.output,
                    block.destination_offset + (place.offset - block.source_offset)};
                found_bytes[block.output] += place.size_bytes;
                break;
            }
        }
        for (std::uint32_t o = 0; o < plan.outputs().size(); ++o)
            fits[o] = fits[o] && found_bytes[o] == plan.outputs()[o].size_bytes;
        for (const std::uint32_t tensor : plan.source_tensors())
            if (members_[tensor].group != detail::no_index &&
                !fits[members_[tensor].group - group_count_])
                members_[tensor] = {};
        group_count_ += static_cast<std::uint32_t>(plan.outputs().size());
        return {};
    }

    result<void> add_tensors() noexcept {
        for (std::size_t i = 0; i < set_.size(); ++i) {
            if (auto added = model_access::add_as_it_is(plan_.model_, i, set_.spec(i).name); !added)
                return added;
        }
        return model_access::sort(plan_.model_);
    }

    /// Sorts the tensors: natural order of names, but the members of a group follow each other, in
    /// the output's order, at the position of the first one.
    result<void> put_in_order() noexcept {
        struct place {
            std::uint32_t position;  // of the first tensor of the group
            std::uint64_t offset;
            std::uint32_t tensor;
        };
        vector<tensor_spec>& old_tensors = model_access::tensors(plan_.model_);
        vector<tensor_origin>& old_origins = model_access::origins(plan_.model_);
        vector<std::uint32_t> first;
        vector<place> places;
        if (!first.resize(group_count_, detail::no_index)) return no_memory();
        for (std::uint32_t i = 0; i < old_tensors.size(); ++i) {
            const member& each = members_[old_origins[i].number];
            if (each.group != detail::no_index && first[each.group] == detail::no_index)
                first[each.group] = i;
            if (!places.push(
                    {each.group == detail::no_index ? i : first[each.group], each.offset, i}))
                return no_memory();
        }
        const auto before = [](const place& a, const place& b) noexcept {
            return a.position != b.position ? a.position < b.position : a.offset < b.offset;
        };
        if (!detail::sort(places.view(), before)) return no_memory();
        vector<tensor_spec> tensors;
        vector<tensor_origin> origins;
        for (const place& each : places) {
            const tensor_origin from = old_origins[each.tensor];
            if (!tensors.push(old_tensors[each.tensor]) || !origins.push(from) ||
                !plan_.groups_.push(members_[from.number].group))
                return no_memory();
        }
        old_tensors = std::move(tensors);
        old_origins = std::move(origins);
        plan_.data_alignment_ = repacked_alignment;
        return {};
    }

    tensor_set_ref set_;
    rewrite_plan plan_;
    vector<member> members_;  // by index in the set
    std::uint32_t group_count_ = 0;
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
