// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: from checkpoint to checkpoint. A rewrite fuses (or unfuses) the experts of every scope and passes all other
// tensors on under the names that the family gives them. Memory: names and shapes, the plan of one scope, two buffers.
#ifndef SAFEFUSE_WRITE_REWRITE_HPP
#define SAFEFUSE_WRITE_REWRITE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/checkpoint_writer.hpp>
#include <safefuse/write/detail/fingerprint.hpp>
#include <safefuse/write/detail/rewrite_run.hpp>
#include <safefuse/write/detail/source_files.hpp>
#include <safefuse/write/rewrite_plan.hpp>
#include <safefuse/write/tensor_file_writer.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What the new checkpoint may share with the old one, where the file system can do that; everything else is copied.
enum class sharing : std::uint8_t {
    nothing,
    blocks,  ///< places on the disk (reflinks), where bytes lie alike in blocks of both files; either file may change later
    files,   ///< and files: a shard that would be byte for byte a file of the source is a second name of it (a hard link).
             ///< Whoever writes into the one then changes the other.
};

/// How a rewrite splits, waits, shares and goes on.
struct rewrite_options {
    std::uint64_t max_shard_bytes = default_shard_bytes;         ///< or one_tensor_per_file
    span<const metadata_entry> metadata = pytorch_metadata;  ///< of every file
    durability wait = durability::synced;                        ///< what a call waits for before it returns
    /// What becomes of the source's pages as they are used up; done_with gives the page cache back as well.
    advice used_source = advice::release;
    /// Go on with what a run that was killed has left, or begin where there is nothing. Complete shards are kept.
    bool resume = false;
    bool check_free_space = true;      ///< before anything is written; not asked for with sharing
    std::uint64_t other_bytes = 0;     ///< as write_options: what the caller writes beside the shards
    sharing share = sharing::nothing;  ///< what the new files may have in common with the old
    std::uint64_t data_alignment = 8;  ///< as write_options; the plan may ask for more
    bool keep_state = false;           ///< as write_options; checkpoint_destination asks for it
};

/// What a rewrite did.
struct rewrite_summary {
    std::uint32_t shard_count = 0;         ///< files with tensors
    std::uint32_t kept_shard_count = 0;    ///< that were there already
    std::uint32_t linked_shard_count = 0;  ///< that are files of the source
    std::uint64_t shared_bytes = 0;        ///< that share their place on the disk with the source
};

namespace detail {

/// How the files of a rewrite are written.
[[nodiscard]] inline write_options write_options_of(const rewrite_plan& plan, const rewrite_options& options) noexcept {
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

/// What decides the bytes of a rewrite beside the new names, dtypes and shapes: where each byte comes from, and the sources, known
/// by their sizes and the times when they were last written to. Their names may change.
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
                         {std::uint64_t{block.source}, std::uint64_t{block.output}, block.source_offset, block.destination_offset,
                          block.run_bytes, std::uint64_t{block.loop_count}})
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

/// Writes the bytes of one shard.
class shard_sink {
public:
    shard_sink(const tensor_set_ref& set, tensor_file_writer& file, span<const std::uint32_t> number_of,
               const rewrite_options& options, std::uint64_t& shared_bytes) noexcept
        : set_{set}, file_{file}, number_of_{number_of}, options_{options}, shared_bytes_{shared_bytes} {}

    result<void> operator()(std::uint32_t t, std::uint64_t offset, span<const std::byte> bytes) noexcept {
        // Syncing at the end then has little left to wait for, and memory does not fill with what is not on the disk yet.
        waiting_bytes_ += bytes.size();
        if (waiting_bytes_ >= stride_bytes && options_.wait == durability::synced) {
            file_.start_writing();
            waiting_bytes_ = 0;
        }
        return file_.write(number_of_[t], offset, bytes);
    }

    shared_range share(std::uint32_t source, std::uint64_t from, std::uint64_t size, std::uint32_t t,
                       std::uint64_t offset) noexcept {
        if (options_.share == sharing::nothing || source == refusing_) return {};
        const std::uint64_t to = file_.offset_bytes(number_of_[t]) + offset;
        const std::uint64_t begin = (share_multiple_bytes - from % share_multiple_bytes) % share_multiple_bytes;
        if (to % share_multiple_bytes != from % share_multiple_bytes || begin >= size) return {};
        const std::uint64_t end = size - (from + size) % share_multiple_bytes;
        if (end <= begin || end > size) return {};
        if (!file_.share(number_of_[t], offset + begin, set_.native_handle(source), from + begin, end - begin)) {
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

/// The files that a rewrite will make: their names, tensors and sizes. Nothing is written.
///   lifetime  the plan and the metadata stay the caller's
///   fails   as checkpoint_outline::make
[[nodiscard]] inline result<checkpoint_outline> outline_of(const rewrite_plan& plan SAFEFUSE_LIFETIMEBOUND,
                                                           const rewrite_options& options = {}) noexcept {
    return checkpoint_outline::make(plan.tensors(), detail::write_options_of(plan, options));
}

/// As the number of a source: none.
inline constexpr std::uint32_t no_source = detail::no_index;

/// The source whose file is, byte for byte, what a shard will be, so that the file itself can stand for it; or no_source.
///   fails   as reading the source's header does; out_of_memory
[[nodiscard]] inline result<std::uint32_t> unchanged_source(const rewrite_plan& plan, const checkpoint_outline& outline,
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
        if (place.source != source || (place.offset != header->offsets[i] && place.size_bytes != 0)) return no_source;
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

/// Writes the checkpoint of a rewrite_plan to a directory: shard after shard, each complete or absent, the index last. While it runs
/// nobody else can write there. What a run that was killed has left can be gone on with (options.resume): only the shard that
/// it was writing is written anew.
///   memory  the headers, the plan of one scope, and less than 32 MiB; pages of mapped sources are given back as they are used up
///   reads   every byte of the source once, each file front to back but for scopes with strided copies; of sources that must be
///           read, parts that are transposed into more than largest_rewrite_buffer_bytes more than once
/// Others than the owner get no more rights to the files than they have to every file of the source.
///   fails   canceled (progress answered false), file_changed (a source has another size now: mapped files are checked before each
///           tensor or scope; or it was written to: sizes and times are compared at the end, before the index is written),
///           destination_in_source (also where only device and inode tell: mounts, links), and as reading the sources and checkpoint_writer do. A run goes on with
///           another one's shards only if the plan, the split, the metadata, the sources' sizes and the times when they were last
///           written to are the same; else it fails with another_rewrite
inline result<rewrite_summary> rewrite(const rewrite_plan& plan, std::string_view directory, const rewrite_options& options = {},
                                       progress_ref progress = {}) noexcept {
    if (auto apart = detail::check_apart(plan.set(), directory); !apart) return std::move(apart).error();
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
    const auto skip = [&](span<const std::uint32_t> tensors) noexcept -> result<void> {
        for (const std::uint32_t t : tensors) {
            std::uint64_t size_bytes = 0;
            static_cast<void>(
                tensor_size(plan.tensors()[t].type, plan.tensors()[t].shape, size_bytes));  // the writer has checked it
            if (auto going = run.skip(t, size_bytes); !going) return going;
        }
        return {};
    };
    vector<std::uint32_t> number_of;  // by tensor: its number in its shard
    if (!number_of.resize(plan.tensors().size(), 0)) return failure{.code = errc::out_of_memory};
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        const span<const std::uint32_t> tensors = writer->tensors_of(shard);
        bool is_there = writer->is_done(shard);
        summary.kept_shard_count += is_there ? 1 : 0;
        if (!is_there)
            if (auto safe = source_files->check_replaceable(plan.set(), writer->shard_path(shard)); !safe)
                return std::move(safe).error();
        if (!is_there && options.share == sharing::files) {
            const auto source = unchanged_source(plan, *writer, shard);
            if (!source) return failure{source.error()};
            is_there = *source != no_source &&
                       writer->link_shard(shard, plan.set().source_name(*source), plan.set().native_handle(*source));
            summary.linked_shard_count += is_there ? 1 : 0;
        }
        if (is_there) {
            if (auto going = skip(tensors); !going) return std::move(going).error();
            continue;
        }
        for (std::size_t i = 0; i < tensors.size(); ++i) number_of[tensors[i]] = static_cast<std::uint32_t>(i);
        auto file = writer->open_shard(shard);
        if (!file) return std::move(file).error();
        detail::shard_sink sink{plan.set(), *file, number_of.view(), options, summary.shared_bytes};
        if (auto sent = run.send(tensors, sink); !sent) return std::move(sent).error();
        if (auto committed = file->commit(options.wait); !committed) return std::move(committed).error();
    }
    if (auto same = detail::check_unchanged(plan.set(), states->view()); !same) return std::move(same).error();
    if (auto finished = writer->finish(); !finished) return std::move(finished).error();
    return summary;
}

namespace detail {

/// A dtype and a shape, for messages: BF16 [128, 768].
inline void append_kind(text& out, const tensor_spec& spec) noexcept {
    out.append(name(spec.type));
    out.append(" [");
    for (std::size_t a = 0; a < spec.shape.size(); ++a) {
        if (a != 0) out.append(", ");
        out.append_number(spec.shape[a]);
    }
    out.append("]");
}

}  // namespace detail

namespace detail {

/// A tensor of another set is not what the rewrite makes.
[[nodiscard]] SAFEFUSE_COLD inline failure other_tensor(const tensor_set_ref& other, std::size_t i,
                                                        errc code, text detail) noexcept {
    return {.code = code,
            .file = text{other.source_name(other.place(i).source)},
            .tensor = text{other.spec(i).name},
            .detail = std::move(detail)};
}

/// Whether a set gives a tensor as many bytes as its dtype and shape ask for, within 64 bits.
///   fails   size_mismatch
inline result<void> check_place(const tensor_set_ref& other, std::uint32_t i, const tensor_spec& spec) noexcept {
    const tensor_location place = other.place(i);
    std::uint64_t size_bytes = 0, end = 0;
    if (tensor_size(spec.type, spec.shape, size_bytes) == size_verdict::fits && size_bytes == place.size_bytes &&
        checked_add(place.offset, place.size_bytes, end))
        return {};
    failure error = other_tensor(other, i, errc::size_mismatch, {});
    error.expected = size_bytes;
    error.actual = place.size_bytes;
    return error;
}

/// Finds the counterpart of every tensor of a rewrite in another set, by name.
///   fails   tensor_not_found, unexpected_tensor, dtype_mismatch, shape_mismatch, out_of_memory
inline result<void> match_tensors(vector<std::uint32_t>& counterpart,
                                  span<const tensor_spec> tensors,
                                  const tensor_set_ref& other) noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    name_table table;
    const auto names = [&](std::uint32_t i) noexcept { return tensors[i].name; };
    if (!table.reserve(tensors.size()) || !counterpart.resize(tensors.size(), no_index))
        return no_memory;
    for (std::uint32_t t = 0; t < tensors.size(); ++t)
        static_cast<void>(table.insert(tensors[t].name, t, names));  // room was reserved
    source_check check{other};
    for (std::uint32_t i = 0; i < other.size(); ++i) {
        if (auto same = check.before(other.place(i).source); !same) return same;
        const tensor_spec spec = other.spec(i);
        const std::uint32_t t = table.find(spec.name, names);
        if (t == name_table::npos)
            return other_tensor(other, i, errc::unexpected_tensor,
                                "the rewrite makes none of that name");
        counterpart[t] = i;
        const bool same = same_shape(spec.shape, tensors[t].shape);
        if (same && spec.type == tensors[t].type) {
            if (auto fits = check_place(other, i, spec); !fits) return fits;
            continue;
        }
        text kinds{"expected "};
        append_kind(kinds, tensors[t]);
        kinds.append(", found ");
        append_kind(kinds, spec);
        return other_tensor(other, i, same ? errc::dtype_mismatch : errc::shape_mismatch,
                            std::move(kinds));
    }
    for (std::uint32_t t = 0; t < tensors.size(); ++t)
        if (counterpart[t] == no_index)
            return failure{.code = errc::tensor_not_found, .tensor = text{tensors[t].name}};
    return {};
}

/// Compares what a rewrite sends with the tensors of another set.
class rewrite_comparison {
public:
    rewrite_comparison(span<const tensor_spec> tensors, const tensor_set_ref& other,
                       span<const std::uint32_t> counterpart) noexcept
        : tensors_{tensors},
          other_{other},
          counterpart_{counterpart},
          check_{other_},
          release_{other_, advice::release} {}

    /// What rewrite_run sends of tensor t, from byte `offset` of it on.
    ///   fails   bytes_differ, read_past_end, file_changed, out_of_memory, and as reading does
    result<void> operator()(std::uint32_t t, std::uint64_t offset,
                            span<const std::byte> bytes) noexcept {
        const tensor_location place = other_.place(counterpart_[t]);
        if (!other_.source_bytes(place.source).empty()) {
            if (exchange(checked_for_, t) != t) check_.forget();
            if (auto same = check_.before(place.source); !same) return same;
        }
        for (std::size_t done = 0; done < bytes.size();) {
            const std::size_t left = bytes.size() - done;
            const std::size_t piece = left < run_piece_bytes ? left : run_piece_bytes;
            if (auto same = compare(t, place, offset + done, bytes.subspan(done, piece)); !same)
                return same;
            done += piece;
        }
        return {};
    }

private:
    result<void> compare(std::uint32_t t, const tensor_location& place, std::uint64_t offset,
                         span<const std::byte> bytes) noexcept {
        const std::uint64_t begin = place.offset + offset;
        const span<const std::byte> resident = other_.source_bytes(place.source);
        const std::byte* theirs = nullptr;
        if (resident.empty()) {
            if (!buffer_.reserve(run_piece_bytes)) return failure{.code = errc::out_of_memory};
            theirs = buffer_.data();
            if (auto read = other_.read(place.source, begin, {buffer_.data(), bytes.size()}); !read)
                return read;
        } else {
            auto there = check_resident(other_, place.source, resident, begin, bytes.size());
            if (!there) {
                there.error().tensor = text{tensors_[t].name};
                return there;
            }
            theirs = resident.data() + begin;
        }
        if (std::memcmp(theirs, bytes.data(), bytes.size()) != 0) {
            std::size_t at = 0;
            while (theirs[at] == bytes[at]) ++at;
            return failure{.code = errc::bytes_differ,
                           .file = text{other_.source_name(place.source)},
                           .tensor = text{tensors_[t].name},
                           .offset = offset + at};
        }
        release_.used(place.source, begin, begin + bytes.size());
        return {};
    }

    span<const tensor_spec> tensors_;
    const tensor_set_ref& other_;
    span<const std::uint32_t> counterpart_;
    vector<std::byte> buffer_;
    std::uint32_t checked_for_ = ~std::uint32_t{0};
    source_check check_;
    source_release release_;
};

}  // namespace detail

/// Compares another tensor set, byte by byte, with what a rewrite would make; neither is loaded.
///   reads   every byte of both once
///   fails   tensor_not_found (one is missing there), unexpected_tensor (one too many there), dtype_mismatch, shape_mismatch,
///           bytes_differ (`offset` counts in the tensor), canceled, and as reading does
inline result<void> verify_rewritten(const rewrite_plan& plan, tensor_set_ref other,
                                     progress_ref progress = {}) noexcept {
    vector<std::uint32_t> chosen, counterpart;
    if (auto matched = detail::match_tensors(counterpart, plan.tensors(), other); !matched)
        return matched;
    for (std::uint32_t t = 0; t < plan.tensors().size(); ++t)
        if (!chosen.push(t)) return failure{.code = errc::out_of_memory};
    detail::rewrite_comparison comparison{plan.tensors(), other, counterpart.view()};
    detail::rewrite_run run{plan, progress, advice::release};
    return run.send(chosen.view(), comparison);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
