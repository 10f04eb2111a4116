// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: rewrites a checkpoint as a new checkpoint. The experts of every scope are fused or
// unfused. All other tensors are passed through under the names that the family gives them. Memory:
// names and shapes, the plan of one scope, two buffers.
#ifndef SAFEFUSE_WRITE_REWRITE_HPP
#define SAFEFUSE_WRITE_REWRITE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/checkpoint_outline.hpp>
#include <safefuse/write/checkpoint_writer.hpp>
#include <safefuse/write/detail/rewrite_files.hpp>
#include <safefuse/write/detail/rewrite_run.hpp>
#include <safefuse/write/detail/source_files.hpp>
#include <safefuse/write/rewrite_options.hpp>
#include <safefuse/write/rewrite_plan.hpp>
#include <safefuse/write/tensor_file_writer.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The files that a rewrite will write: names, tensors and sizes. Nothing is written.
///   lifetime  refers to the caller's plan and metadata
///   fails   as checkpoint_outline::make
[[nodiscard]] inline result<checkpoint_outline> outline_of(
    const rewrite_plan& plan SAFEFUSE_LIFETIMEBOUND, const rewrite_options& options = {}) noexcept {
    return checkpoint_outline::make(plan.tensors(), detail::write_options_of(plan, options));
}

/// Index of no source.
inline constexpr std::uint32_t no_source = detail::no_index;

/// The source whose file equals a shard's future file byte for byte and can stand in for it, or
/// no_source.
///   fails   as reading the source's header; out_of_memory
[[nodiscard]] inline result<std::uint32_t> unchanged_source(const rewrite_plan& plan,
                                                            const checkpoint_outline& outline,
                                                            std::uint32_t shard) noexcept {
    const tensor_set_ref& set = plan.set();
    const span<const std::uint32_t> tensors = outline.tensors_of(shard);
    auto header = outline.header_of(shard);
    if (!header) return std::move(header).error();
    std::uint32_t source = no_source, planned = rewrite_plan::passthrough;
    result<copy_plan> scope{failure{}};
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const rewrite_plan::origin from = plan.origin_of(tensors[i]);
        tensor_location place;
        if (from.scope == rewrite_plan::passthrough) {
            place = set.place(from.number);
        } else {
            if (planned != from.scope) scope = plan.plan_of(from.scope);
            if (!scope) return std::move(scope).error();
            planned = from.scope;
            const copy_block* const run = scope->single_run(from.number);
            if (run == nullptr) return no_source;
            place = {run->source, run->source_offset, run->run_bytes};
        }
        if (i == 0) source = place.source;
        if (place.source != source || (place.offset != header->offsets[i] && place.size_bytes != 0))
            return no_source;
    }
    if (source == no_source) return no_source;
    std::uint64_t size_bytes = set.source_bytes(source).size();
    if (const std::intptr_t native = set.native_handle(source); native != no_native_handle)
        if (!detail::os::size_of(detail::os::handle_of(native), size_bytes)) return no_source;
    if (size_bytes != header->file_bytes) return no_source;
    vector<std::byte> start;
    if (!start.resize_unset(header->bytes.size())) return failure{.code = errc::out_of_memory};
    if (auto read = set.read(source, 0, start.view()); !read) return std::move(read).error();
    return std::memcmp(start.data(), header->bytes.data(), start.size()) == 0 ? source : no_source;
}

namespace detail {

/// Whether a shard needs no writing: it was written before, or a source's file can stand for it.
///   fails   destination_in_source, and as unchanged_source
[[nodiscard]] inline result<bool> is_shard_there(const rewrite_plan& plan,
                                                 const source_files& sources,
                                                 checkpoint_writer& writer, std::uint32_t shard,
                                                 const rewrite_options& options,
                                                 rewrite_summary& summary) noexcept {
    if (writer.is_done(shard)) {
        ++summary.kept_shard_count;
        return true;
    }
    if (auto safe = sources.check_replaceable(plan.set(), writer.shard_path(shard)); !safe)
        return std::move(safe).error();
    if (options.share != sharing::files) return false;
    auto source = unchanged_source(plan, writer, shard);
    if (!source) return std::move(source).error();
    const bool is_linked =
        *source != no_source && writer.link_shard(shard, plan.set().source_name(*source),
                                                  plan.set().native_handle(*source));
    summary.linked_shard_count += is_linked ? 1 : 0;
    return is_linked;
}

}  // namespace detail

/// Writes the checkpoint of a rewrite_plan to a directory: shard after shard, each complete or
/// absent, the index last. While it runs nobody else can write there. What a run that was killed
/// has left can be gone on with (options.resume): only the shard that it was writing is written
/// anew.
///   memory  the headers, the plan of one scope, and less than 32 MiB; pages of mapped sources are
///           released as they are used up
///   reads   every byte of the source once, each file front to back except for scopes with strided
///           copies; from sources that must be read, a part is read more than once if its
///           transposed result exceeds largest_rewrite_buffer_bytes
///   fails   canceled (progress returned false), file_changed (the size of a source changed: mapped
///           files are checked before each tensor or scope; or a source was modified: sizes and
///           times are compared before the index is written), destination_in_source (also if only
///           device and inode show it: mounts, links), another_rewrite (a resumed run has another
///           plan, split or metadata, or its sources have other sizes or modification times), and
///           as reading the sources and checkpoint_writer do
inline result<rewrite_summary> rewrite(const rewrite_plan& plan, std::string_view directory,
                                       const rewrite_options& options = {},
                                       progress_ref progress = {}) noexcept {
    if (auto apart = detail::check_apart(plan.set(), directory); !apart)
        return std::move(apart).error();
    auto states = detail::states_of_sources(plan.set());
    if (!states) return std::move(states).error();
    auto identity = detail::identity_of(plan);
    if (!identity) return std::move(identity).error();
    write_options writing = detail::write_options_of(plan, options);
    writing.identity = *identity;
    writing.permissions = detail::permissions_of_sources(plan.set());
    auto writer = checkpoint_writer::create(directory, plan.tensors(), writing);
    if (!writer) return std::move(writer).error();

    auto source_files = detail::source_files::of(plan.set());
    if (!source_files) return std::move(source_files).error();

    rewrite_summary summary{.shard_count = writer->shard_count()};
    detail::rewrite_run run{plan, progress, options.used_source};
    vector<std::uint32_t> number_of;  // by tensor: its index in its shard
    if (!number_of.resize(plan.tensors().size(), 0)) return failure{.code = errc::out_of_memory};
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        const span<const std::uint32_t> tensors = writer->tensors_of(shard);
        auto is_there =
            detail::is_shard_there(plan, *source_files, *writer, shard, options, summary);
        if (!is_there) return std::move(is_there).error();
        if (*is_there) {
            if (auto going = detail::skip_tensors(run, plan.tensors(), tensors); !going)
                return std::move(going).error();
            continue;
        }
        for (std::size_t i = 0; i < tensors.size(); ++i)
            number_of[tensors[i]] = static_cast<std::uint32_t>(i);
        auto file = writer->open_shard(shard);
        if (!file) return std::move(file).error();
        detail::shard_sink sink{plan.set(), *file, number_of.view(), options, summary.shared_bytes};
        if (auto sent = run.send(tensors, sink); !sent) return std::move(sent).error();
        if (auto committed = file->commit(options.wait); !committed)
            return std::move(committed).error();
    }
    if (auto same = detail::check_unchanged(plan.set(), states->view()); !same)
        return std::move(same).error();
    if (auto finished = writer->finish(); !finished) return std::move(finished).error();
    return summary;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
