// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the plan as data: the tensors to make and every copy that makes them. plan.hpp makes a
// plan. Run it with fuse.hpp, print it, or pass it to your own executor.
#ifndef SAFEFUSE_PLAN_COPY_PLAN_HPP
#define SAFEFUSE_PLAN_COPY_PLAN_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {
struct plan_access;

/// Whether somebody forgot the star: for the sentences of calls that do not compile.
template <class T>
inline constexpr bool is_result = false;
template <class T>
inline constexpr bool is_result<result<T>> = true;
}  // namespace detail

/// The layout that is stored in a scope, relative to the two layouts of a plan.
enum class scope_state : std::uint8_t {
    pending,  ///< the layout to plan from
    done,     ///< already the layout to plan to
    mixed,    ///< some of each: an error
};

/// Most loops of a copy.
inline constexpr std::size_t max_copy_loops = 6;

/// One loop of a strided copy.
struct copy_loop {
    std::uint64_t extent = 0;              ///< number of steps
    std::uint64_t source_stride = 0;       ///< bytes from one step to the next
    std::uint64_t destination_stride = 0;  ///< bytes from one step to the next

    /// Equal in every member.
    friend constexpr bool operator==(const copy_loop&, const copy_loop&) noexcept = default;
};

/// A copy: runs of bytes from one source of a tensor set to one output. Without loops it is one
/// run.
struct copy_block {
    /// Index of the source in the tensor set.
    std::uint32_t source = 0;
    /// Index of the output in the plan.
    std::uint32_t output = 0;
    /// Offset of the first run in the source, in bytes.
    std::uint64_t source_offset = 0;
    /// Offset of the first run in the output, in bytes.
    std::uint64_t destination_offset = 0;
    /// Bytes that are contiguous on both sides.
    std::uint64_t run_bytes = 0;
    /// Number of `loops` in use. 0: the copy is one run.
    std::uint32_t loop_count = 0;
    /// Outermost first, by falling destination stride.
    copy_loop loops[max_copy_loops]{};

    /// Equal in every member.
    friend constexpr bool operator==(const copy_block&, const copy_block&) noexcept = default;

    /// Number of runs.
    [[nodiscard]] constexpr std::uint64_t run_count() const noexcept {
        std::uint64_t count = 1;
        for (std::uint32_t i = 0; i < loop_count; ++i) count *= loops[i].extent;
        return count;
    }
    /// Number of bytes copied.
    [[nodiscard]] constexpr std::uint64_t size_bytes() const noexcept {
        return run_bytes * run_count();
    }
    /// Bytes from the first byte read to the end of the last one.
    [[nodiscard]] constexpr std::uint64_t source_extent_bytes() const noexcept {
        std::uint64_t extent = run_bytes;
        for (std::uint32_t i = 0; i < loop_count; ++i)
            extent += (loops[i].extent - 1) * loops[i].source_stride;
        return extent;
    }
    /// Bytes from the first byte written to the end of the last one.
    [[nodiscard]] constexpr std::uint64_t destination_extent_bytes() const noexcept {
        std::uint64_t extent = run_bytes;
        for (std::uint32_t i = 0; i < loop_count; ++i)
            extent += (loops[i].extent - 1) * loops[i].destination_stride;
        return extent;
    }
};

/// A tensor that a plan makes. `name` is its full name.
struct plan_output : tensor_spec {
    /// Name under the destination's scope: gate_up_proj.
    std::string_view local_name;
    /// Size of the buffer for it.
    std::uint64_t size_bytes = 0;
    /// Not 0 if the output collects one entry per part: the number of entries per expert, such as 2
    /// for the scales [E, 2] of gate and up.
    std::uint32_t per_part_scales = 0;
};

/// The checked list of copies that makes the outputs of one scope.
///   lifetime  the tensor set that it was made from must outlive it. A checkpoint or a tensor_list
///             may be moved meanwhile; any other set only if it has `stable_view()`
class copy_plan {
public:
    /// Returned by index_of() if there is no such output.
    static constexpr std::size_t npos = ~std::size_t{0};

    /// The moved-from plan has no outputs.
    SAFEFUSE_NOINLINE copy_plan(copy_plan&&) noexcept = default;
    /// The moved-from plan has no outputs.
    copy_plan& operator=(copy_plan&&) noexcept = default;
    SAFEFUSE_NOINLINE ~copy_plan() = default;

    /// The tensors that the plan makes.
    [[nodiscard]] span<const plan_output> outputs() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return outputs_.view();
    }
    /// The output with a local name ("gate_up_proj", "7.down_proj.weight").
    ///   lifetime  the names and the shape belong to the plan
    ///   fails     output_not_found; the detail lists the outputs
    [[nodiscard]] result<plan_output> output(std::string_view local_name) const noexcept
        SAFEFUSE_LIFETIMEBOUND {
        const std::size_t i = index_of(local_name);
        if (i == npos) return no_output(local_name);
        return outputs_[i];
    }
    /// Index in outputs() of the output with a local name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view local_name) const noexcept {
        for (std::size_t i = 0; i < outputs_.size(); ++i)
            if (outputs_[i].local_name == local_name) return i;
        return npos;
    }
    /// All copies, sorted by source and source offset.
    [[nodiscard]] span<const copy_block> blocks() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return blocks_.view();
    }
    /// Equality checks: source bytes that must equal bytes that blocks() makes, because the source
    /// stores a value more often than the destination. They are not copied; fuse and fuse_range
    /// compare them.
    [[nodiscard]] span<const copy_block> equal_blocks() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return equal_blocks_.view();
    }
    /// The block that makes a whole output as one run of one source, or null. A view can then
    /// replace the output.
    [[nodiscard]] const copy_block* single_run(std::size_t output) const noexcept
        SAFEFUSE_LIFETIMEBOUND {
        for (const copy_block& block : equal_blocks_)
            if (block.output == output) return nullptr;
        for (const copy_block& block : blocks_)
            if (block.output == output)
                return block.loop_count == 0 && block.run_bytes == outputs_[output].size_bytes
                           ? &block
                           : nullptr;
        return nullptr;
    }
    /// The layout of the source. scope_state::done: the source already has the destination's
    /// layout, and the plan copies it unchanged.
    [[nodiscard]] scope_state source_form() const noexcept { return form_; }
    /// If not empty: the experts already have the destination's form and are copied whole, as
    /// stored. The sentence says what the layout cannot split.
    [[nodiscard]] std::string_view kept_for() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return kept_for_.view();
    }
    /// The scope of the source.
    [[nodiscard]] std::string_view scope() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return detail::characters_at(arena_.data(), arena_.empty() ? 0 : scope_size_);
    }
    /// Number of experts in the outputs.
    [[nodiscard]] std::uint64_t expert_count() const noexcept { return expert_count_; }
    /// Bytes of all outputs.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept {
        std::uint64_t sum = 0;
        for (const plan_output& each : outputs_) sum += each.size_bytes;
        return sum;
    }
    /// The tensors that the plan reads, as ascending indices in the tensor set.
    [[nodiscard]] span<const std::uint32_t> source_tensors() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensors_.view();
    }
    /// The tensor set that was planned from.
    [[nodiscard]] const tensor_set_ref& set() const noexcept SAFEFUSE_LIFETIMEBOUND { return set_; }

private:
    friend struct detail::plan_access;
    copy_plan(tensor_set_ref set, scope_state form, std::uint64_t expert_count,
              std::size_t scope_size, vector<char>&& arena, vector<std::uint64_t>&& extents,
              vector<plan_output>&& outputs, vector<copy_block>&& blocks,
              vector<copy_block>&& equal_blocks, vector<std::uint32_t>&& tensors,
              text&& kept_for = {}) noexcept
        : set_{set},
          form_{form},
          expert_count_{expert_count},
          scope_size_{scope_size},
          arena_{std::move(arena)},
          extents_{std::move(extents)},
          outputs_{std::move(outputs)},
          blocks_{std::move(blocks)},
          equal_blocks_{std::move(equal_blocks)},
          tensors_{std::move(tensors)},
          kept_for_{std::move(kept_for)} {}

    [[nodiscard]] SAFEFUSE_COLD failure no_output(std::string_view local_name) const noexcept {
        constexpr std::size_t most = 12;
        failure out{.code = errc::output_not_found, .scope = scope(), .detail = "\""};
        out.detail.append(local_name);
        out.detail.append(outputs_.empty() ? "\"; it has none" : "\"; it has ");
        for (std::size_t i = 0; i < outputs_.size() && i < most; ++i) {
            if (i != 0) out.detail.append(i + 1 == outputs_.size() ? " and " : ", ");
            out.detail.append(outputs_[i].local_name);
        }
        if (outputs_.size() > most) {
            out.detail.append(" and ");
            out.detail.append_count(outputs_.size() - most);
            out.detail.append(" more");
        }
        return out;
    }

    tensor_set_ref set_;
    scope_state form_;
    std::uint64_t expert_count_;
    std::size_t scope_size_;
    vector<char> arena_;  // the scope, then the outputs' full names
    vector<std::uint64_t> extents_;
    vector<plan_output> outputs_;
    vector<copy_block> blocks_;
    vector<copy_block> equal_blocks_;
    vector<std::uint32_t> tensors_;
    text kept_for_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
