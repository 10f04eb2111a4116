// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the writer options of a rewrite, and the sink for a shard's bytes.
#ifndef SAFEFUSE_WRITE_DETAIL_REWRITE_FILES_HPP
#define SAFEFUSE_WRITE_DETAIL_REWRITE_FILES_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/checkpoint_outline.hpp>
#include <safefuse/write/detail/fingerprint.hpp>
#include <safefuse/write/detail/rewrite_run.hpp>
#include <safefuse/write/detail/source_files.hpp>
#include <safefuse/write/rewrite_options.hpp>
#include <safefuse/write/rewrite_plan.hpp>
#include <safefuse/write/tensor_file_writer.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The writer options of a rewrite.
[[nodiscard]] inline write_options write_options_of(const rewrite_plan& plan,
                                                    const rewrite_options& options) noexcept {
    const std::uint64_t least = plan.data_alignment();
    return {.max_shard_bytes = options.max_shard_bytes,
            .metadata = options.metadata,
            .data_alignment = options.data_alignment < least ? least : options.data_alignment,
            .groups = plan.groups(),
            .wait = options.wait,
            .resume = options.resume,
            .check_free_space = options.check_free_space && options.share == sharing::nothing,
            .other_bytes = options.other_bytes,
            .reserve = options.share == sharing::nothing,
            .keep_state = options.keep_state};
}

/// Fingerprint of everything that decides the bytes of a rewrite, apart from the new names, dtypes
/// and shapes: the origin of each byte, and the sources, identified by size and modification time.
/// The sources' names may change.
[[nodiscard]] inline result<fingerprint> identity_of(const rewrite_plan& plan) noexcept {
    fingerprint_maker maker;
    const tensor_set_ref& set = plan.set();
    const std::uint32_t sources = source_count(set);
    maker.add(sources);
    for (std::uint32_t source = 0; source < sources; ++source) {
        const std::intptr_t native = set.native_handle(source);
        std::uint64_t size_bytes = set.source_bytes(source).size();
        if (native != no_native_handle) (void)os::size_of(os::handle_of(native), size_bytes);
        maker.add(size_bytes);
        maker.add(native == no_native_handle ? 0 : os::modified_time(os::handle_of(native)));
    }
    std::uint32_t planned = rewrite_plan::passthrough;
    for (std::uint32_t t = 0; t < plan.tensors().size(); ++t) {
        const rewrite_plan::origin from = plan.origin_of(t);
        maker.add(from.scope);
        maker.add(from.number);
        if (from.scope == rewrite_plan::passthrough) {
            const tensor_location place = set.place(from.number);
            maker.add(place.source);
            maker.add(place.offset);
        } else if (from.scope != planned) {
            planned = from.scope;
            const auto scope = plan.plan_of(from.scope);
            if (!scope) return failure{scope.error()};
            for (const auto& blocks : {scope->blocks(), scope->equal_blocks()}) {
                maker.add(blocks.size());
                for (const copy_block& block : blocks) {
                    for (const std::uint64_t number :
                         {std::uint64_t{block.source}, std::uint64_t{block.output},
                          block.source_offset, block.destination_offset, block.run_bytes,
                          std::uint64_t{block.loop_count}})
                        maker.add(number);
                    for (std::uint32_t l = 0; l < block.loop_count; ++l) {
                        maker.add(block.loops[l].extent);
                        maker.add(block.loops[l].source_stride);
                        maker.add(block.loops[l].destination_stride);
                    }
                }
            }
        }
    }
    return maker.made();
}

/// Counts the bytes of tensors that are already written. `chosen` are indices into the plan.
///   fails   canceled
inline result<void> skip_tensors(rewrite_run& run, span<const tensor_spec> tensors,
                                 span<const std::uint32_t> chosen) noexcept {
    for (const std::uint32_t t : chosen) {
        std::uint64_t size_bytes = 0;
        static_cast<void>(tensor_size(tensors[t].type, tensors[t].shape,
                                      size_bytes));  // checked by the writer
        if (auto going = run.skip(t, size_bytes); !going) return going;
    }
    return {};
}

/// Writes the bytes of one shard.
class shard_sink {
public:
    shard_sink(const tensor_set_ref& set, tensor_file_writer& file,
               span<const std::uint32_t> number_of, const rewrite_options& options,
               std::uint64_t& shared_bytes) noexcept
        : set_{set},
          file_{file},
          number_of_{number_of},
          options_{options},
          shared_bytes_{shared_bytes} {}

    result<void> operator()(std::uint32_t t, std::uint64_t offset,
                            span<const std::byte> bytes) noexcept {
        // Start writing to the disk early: the final sync is then short, and unwritten pages do not
        // fill the memory.
        waiting_bytes_ += bytes.size();
        if (waiting_bytes_ >= stride_bytes && options_.wait == durability::synced) {
            file_.start_writing();
            waiting_bytes_ = 0;
        }
        return file_.write(number_of_[t], offset, bytes);
    }

    shared_range share(std::uint32_t source, std::uint64_t from, std::uint64_t size,
                       std::uint32_t t, std::uint64_t offset) noexcept {
        if (options_.share == sharing::nothing || source == refusing_) return {};
        const std::uint64_t to = file_.offset_bytes(number_of_[t]) + offset;
        const std::uint64_t begin =
            (share_multiple_bytes - from % share_multiple_bytes) % share_multiple_bytes;
        if (to % share_multiple_bytes != from % share_multiple_bytes || begin >= size) return {};
        const std::uint64_t end = size - (from + size) % share_multiple_bytes;
        if (end <= begin || end > size) return {};
        if (!file_.share(number_of_[t], offset + begin, set_.native_handle(source), from + begin,
                         end - begin)) {
            refusing_ = source;
            return {};
        }
        shared_bytes_ += end - begin;
        return {begin, end};
    }

private:
    static constexpr std::uint64_t stride_bytes = std::uint64_t{32} << 20;

    const tensor_set_ref& set_;
    tensor_file_writer& file_;
    span<const std::uint32_t> number_of_;
    const rewrite_options& options_;
    std::uint64_t& shared_bytes_;
    std::uint64_t waiting_bytes_ = 0;
    std::uint32_t refusing_ = no_index;
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
