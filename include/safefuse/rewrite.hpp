// safefuse: from checkpoint to checkpoint. A rewrite fuses (or unfuses) the experts of every scope and passes all other
// tensors on under the names that the family gives them. Memory: names and shapes, the plan of one scope, one buffer.
#ifndef SAFEFUSE_REWRITE_HPP
#define SAFEFUSE_REWRITE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <safefuse/detail/array.hpp>
#include <safefuse/fuse.hpp>
#include <safefuse/plan.hpp>
#include <safefuse/result.hpp>
#include <safefuse/rewrite_plan.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/shard_index.hpp>
#include <safefuse/tensor_set.hpp>
#include <safefuse/writer.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// The buffer of a rewrite, and the most that it reads or writes at once.
inline constexpr std::size_t rewrite_buffer_bytes = std::size_t{4} << 20;

/// How far a rewrite is.
struct rewrite_progress {
    std::string_view tensor;  ///< that was just worked on, by its new name
    std::uint64_t done_bytes;
    std::uint64_t total_bytes;
};

/// A function that is told of progress and answers whether to go on. It refers to the callable, which must outlive it and must
/// not throw.
class progress_ref {
public:
    progress_ref() noexcept = default;
    template <class F>
        requires(!std::is_same_v<F, progress_ref> && std::is_invocable_r_v<bool, F&, const rewrite_progress&>)
    progress_ref(F& f SAFEFUSE_LIFETIMEBOUND) noexcept  // NOLINT: a callable is meant to convert
        : object_{&f}, call_{[](void* object, const rewrite_progress& progress) { return static_cast<bool>((*static_cast<F*>(object))(progress)); }} {}

    bool operator()(const rewrite_progress& progress) const { return call_ == nullptr || call_(object_, progress); }

private:
    void* object_ = nullptr;
    bool (*call_)(void*, const rewrite_progress&) = nullptr;
};

struct rewrite_options {
    std::uint64_t max_shard_bytes = default_shard_bytes;
    sequence<const metadata_entry> metadata = pytorch_metadata;  ///< of every file
    durability wait = durability::synced;
    /// What becomes of the source's pages as they are used up; done_with gives the page cache back as well.
    advice used_source = advice::release;
};

namespace detail {

/// Lets go of a source's pages as they are used up, in strides that are worth a system call.
class source_release {
public:
    source_release(const tensor_set_ref& set, advice hint) noexcept : set_{set}, hint_{hint} {}
    ~source_release() { flush(); }
    source_release(const source_release&) = delete;
    source_release& operator=(const source_release&) = delete;

    /// Bytes up to `end` of a source have been used.
    void used(std::uint32_t source, std::uint64_t begin, std::uint64_t end) noexcept {
        if (source != source_ || begin < begin_) {
            flush();
            source_ = source;
            begin_ = end_ = begin / page_multiple * page_multiple;
        }
        if (end > end_) end_ = end;
        if (end_ - begin_ >= stride_bytes) flush();
    }

private:
    static constexpr std::uint64_t page_multiple = 65536;
    static constexpr std::uint64_t stride_bytes = std::uint64_t{8} << 20;

    void flush() noexcept {
        if (end_ > begin_) set_.advise(source_, begin_, end_ - begin_, hint_);
        begin_ = end_ / page_multiple * page_multiple;
        end_ = begin_;
    }

    const tensor_set_ref& set_;
    advice hint_;
    std::uint32_t source_ = 0;
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
};

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

/// Where a rewrite's bytes go: a new file, or a comparison.
///   accept(tensor, offset, bytes)   bytes of tensor `tensor` of the rewrite_plan
class rewrite_run {
public:
    rewrite_run(const rewrite_plan& plan, progress_ref progress, advice used_source) noexcept
        : plan_{plan}, set_{plan.set()}, progress_{progress}, check_{set_}, release_{set_, used_source} {}

    /// Sends the bytes of the tensors `chosen` (numbers in the plan), in the order in which they lie in their sources.
    template <class Accept>
    result<void> send(sequence<const std::uint32_t> chosen, Accept&& accept) noexcept {
        array<step> steps;
        for (const std::uint32_t t : chosen)
            if (auto added = add_step(steps, t); !added) return added;
        const auto before = [](const step& a, const step& b) noexcept { return a.source != b.source ? a.source < b.source : a.offset < b.offset; };
        if (!sort(steps.span(), before)) return failure{.code = errc::out_of_memory};
        for (const step& each : steps) {
            check_.forget();
            auto sent = each.scope == rewrite_plan::as_it_is ? send_tensor(each.tensor, accept) : send_scope(each.scope, chosen, accept);
            if (!sent) return sent;
        }
        return {};
    }

private:
    /// A tensor as it is, or all chosen outputs of a scope.
    struct step {
        std::uint32_t source;
        std::uint32_t scope;
        std::uint64_t offset;
        std::uint32_t tensor;
    };

    result<void> add_step(array<step>& steps, std::uint32_t t) noexcept {
        const rewrite_plan::origin from = plan_.origin_of(t);
        for (std::size_t i = steps.size(); from.scope != rewrite_plan::as_it_is && i-- > 0;)
            if (steps[i].scope == from.scope) return {};
        const std::size_t first = from.scope == rewrite_plan::as_it_is ? from.number : plan_.scopes()[from.scope].tensors[0];
        const tensor_place place = set_.place(first);
        if (!steps.push({place.source, from.scope, place.offset, t})) return failure{.code = errc::out_of_memory};
        return {};
    }

    /// Sends [from, from + size) of a source as bytes of a tensor, in pieces.
    template <class Accept>
    result<void> send_run(std::uint32_t source, std::uint64_t from, std::uint64_t size, std::uint32_t t, std::uint64_t to, Accept& accept) noexcept {
        const std::span<const std::byte> resident = set_.source_bytes(source);
        if (!resident.empty())
            if (auto same = check_.before(source); !same) return same;
        for (std::uint64_t done = 0; done < size;) {
            const std::size_t piece = static_cast<std::size_t>(size - done < rewrite_buffer_bytes ? size - done : rewrite_buffer_bytes);
            std::span<const std::byte> bytes;
            if (!resident.empty()) {
                if (from > resident.size() || resident.size() - from < size)
                    return failure{.code = errc::read_past_end, .file = text{set_.source_name(source)}, .offset = from, .expected = size, .actual = resident.size()};
                bytes = resident.subspan(static_cast<std::size_t>(from + done), piece);
            } else {
                if (!buffer_.resize_unset(rewrite_buffer_bytes)) return failure{.code = errc::out_of_memory};
                if (auto read = set_.read(source, from + done, {buffer_.data(), piece}); !read) return read;
                bytes = {buffer_.data(), piece};
            }
            if (auto sent = pass(t, to + done, bytes, accept); !sent) return sent;
            release_.used(source, from + done, from + done + piece);
            done += piece;
        }
        return {};
    }

    template <class Accept>
    result<void> pass(std::uint32_t t, std::uint64_t offset, std::span<const std::byte> bytes, Accept& accept) noexcept {
        if (auto accepted = accept(t, offset, bytes); !accepted) return accepted;
        done_bytes_ += bytes.size();
        if (!progress_({plan_.tensors()[t].name, done_bytes_, plan_.total_bytes()})) return failure{.code = errc::canceled};
        return {};
    }

    template <class Accept>
    result<void> send_tensor(std::uint32_t t, Accept& accept) noexcept {
        const tensor_place place = set_.place(plan_.origin_of(t).number);
        return send_run(place.source, place.offset, place.size_bytes, t, 0, accept);
    }

    template <class Accept>
    result<void> send_scope(std::uint32_t scope, sequence<const std::uint32_t> chosen, Accept& accept) noexcept {
        constexpr std::uint32_t not_chosen = ~std::uint32_t{0};
        auto plan = plan_.plan_of(scope);
        if (!plan) return std::move(plan).error();
        array<std::uint32_t> tensor_of;  // by output
        if (!tensor_of.resize(plan->outputs().size(), not_chosen)) return failure{.code = errc::out_of_memory};
        for (const std::uint32_t t : chosen)
            if (plan_.origin_of(t).scope == scope) tensor_of[plan_.origin_of(t).number] = t;
        // an output with strided copies is put together piece by piece; the others are runs, sent in the sources' order
        array<bool> strided;
        if (!strided.resize(plan->outputs().size(), false)) return failure{.code = errc::out_of_memory};
        for (const copy_block& block : plan->blocks()) strided[block.output] = strided[block.output] || block.loop_count != 0;
        for (const copy_block& block : plan->blocks()) {
            const std::uint32_t t = tensor_of[block.output];
            if (t == not_chosen || strided[block.output]) continue;
            if (auto sent = send_run(block.source, block.source_offset, block.run_bytes, t, block.destination_offset, accept); !sent) return sent;
        }
        for (std::size_t o = 0; o < plan->outputs().size(); ++o)
            if (tensor_of[o] != not_chosen && strided[o])
                if (auto sent = send_gathered(*plan, o, tensor_of[o], accept); !sent) return sent;
        return {};
    }

    template <class Accept>
    result<void> send_gathered(const copy_plan& plan, std::size_t output, std::uint32_t t, Accept& accept) noexcept {
        if (!buffer_.resize_unset(rewrite_buffer_bytes)) return failure{.code = errc::out_of_memory};
        const std::uint64_t size = plan.outputs()[output].size_bytes;
        for (std::uint64_t done = 0; done < size;) {
            const std::size_t piece = static_cast<std::size_t>(size - done < buffer_.size() ? size - done : buffer_.size());
            if (auto gathered = gather(plan, output, done, {buffer_.data(), piece}); !gathered) return gathered;
            if (auto sent = pass(t, done, {buffer_.data(), piece}, accept); !sent) return sent;
            done += piece;
        }
        for (const copy_block& block : plan.blocks())
            if (block.output == output) release_.used(block.source, block.source_offset, block.source_offset + block.source_extent_bytes());
        return {};
    }

    const rewrite_plan& plan_;
    const tensor_set_ref& set_;
    progress_ref progress_;
    source_check check_;
    source_release release_;
    array<std::byte> buffer_;
    std::uint64_t done_bytes_ = 0;
};

}  // namespace detail

/// Writes the checkpoint of a rewrite_plan to a directory: shard after shard, each complete or absent, the index last.
///   fails   canceled (progress answered false), file_changed (a source has another size now: mapped files are checked before each
///           tensor or scope), and as reading the sources and checkpoint_writer do
inline result<void> rewrite(const rewrite_plan& plan, std::string_view directory, const rewrite_options& options = {}, progress_ref progress = {}) noexcept {
    auto writer = checkpoint_writer::create(directory, plan.tensors(), options.max_shard_bytes, options.metadata);
    if (!writer) return std::move(writer).error();
    detail::rewrite_run run{plan, progress, options.used_source};
    detail::array<std::uint32_t> chosen, number_in_shard;
    if (!number_in_shard.resize(plan.tensors().size(), 0)) return failure{.code = errc::out_of_memory};
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        chosen.clear();
        for (std::uint32_t t = 0; t < plan.tensors().size(); ++t) {
            if (writer->shard_of(t) != shard) continue;
            number_in_shard[t] = static_cast<std::uint32_t>(chosen.size());
            if (!chosen.push(t)) return failure{.code = errc::out_of_memory};
        }
        auto file = writer->open_shard(shard);
        if (!file) return std::move(file).error();
        auto sent = run.send(chosen.span(), [&](std::uint32_t t, std::uint64_t offset, std::span<const std::byte> bytes) noexcept {
            return file->write(number_in_shard[t], offset, bytes);
        });
        if (!sent) return sent;
        if (auto committed = file->commit(options.wait); !committed) return committed;
    }
    return writer->finish(options.wait);
}

/// Compares another tensor set, byte by byte, with what a rewrite would make; neither is loaded.
///   reads   every byte of both once
///   fails   tensor_not_found (one is missing there), unexpected_tensor (one too many there), dtype_mismatch, shape_mismatch,
///           bytes_differ (`offset` counts in the tensor), canceled, and as reading does
inline result<void> verify_rewritten(const rewrite_plan& plan, tensor_set_ref other, progress_ref progress = {}) noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    const sequence<const tensor_spec> tensors = plan.tensors();
    detail::name_table table;
    const auto names = [&](std::uint32_t i) noexcept { return tensors[i].name; };
    if (!table.reserve(tensors.size())) return no_memory;
    detail::array<std::uint32_t> chosen, counterpart;
    constexpr std::uint32_t none = ~std::uint32_t{0};
    if (!counterpart.resize(tensors.size(), none)) return no_memory;
    for (std::uint32_t t = 0; t < tensors.size(); ++t) {
        static_cast<void>(table.insert(tensors[t].name, t, names));  // room was reserved
        if (!chosen.push(t)) return no_memory;
    }
    detail::source_check check{other};
    for (std::uint32_t i = 0; i < other.size(); ++i) {
        if (auto same = check.before(other.place(i).source); !same) return same;
        const tensor_spec spec = other.spec(i);
        const auto fault = [&](errc code, text detail) noexcept {
            return failure{.code = code, .file = text{other.source_name(other.place(i).source)}, .tensor = text{spec.name}, .detail = std::move(detail)};
        };
        const std::uint32_t t = table.find(spec.name, names);
        if (t == detail::name_table::npos) return fault(errc::unexpected_tensor, "the rewrite makes none of that name");
        counterpart[t] = i;
        bool same = spec.shape.size() == tensors[t].shape.size();
        for (std::size_t a = 0; same && a < spec.shape.size(); ++a) same = spec.shape[a] == tensors[t].shape[a];
        if (same && spec.type == tensors[t].type) continue;
        text kinds{"expected "};
        detail::append_kind(kinds, tensors[t]);
        kinds.append(", found ");
        detail::append_kind(kinds, spec);
        return fault(same ? errc::dtype_mismatch : errc::shape_mismatch, std::move(kinds));
    }
    for (std::uint32_t t = 0; t < tensors.size(); ++t)
        if (counterpart[t] == none) return failure{.code = errc::tensor_not_found, .tensor = text{tensors[t].name}};

    detail::array<std::byte> buffer;
    std::uint32_t checked_for = none;
    detail::source_release release{other, advice::release};
    detail::rewrite_run run{plan, progress, advice::release};
    return run.send(chosen.span(), [&](std::uint32_t t, std::uint64_t offset, std::span<const std::byte> bytes) noexcept -> result<void> {
        const tensor_place place = other.place(counterpart[t]);
        const std::uint64_t begin = place.offset + offset;
        std::span<const std::byte> theirs = other.source_bytes(place.source);
        if (!theirs.empty()) {
            if (std::exchange(checked_for, t) != t) check.forget();
            if (auto same = check.before(place.source); !same) return same;
            if (begin > theirs.size() || theirs.size() - begin < bytes.size())
                return failure{.code = errc::read_past_end, .file = text{other.source_name(place.source)}, .tensor = text{tensors[t].name},
                               .offset = begin, .expected = bytes.size(), .actual = theirs.size()};
            theirs = theirs.subspan(static_cast<std::size_t>(begin), bytes.size());
        } else {
            if (!buffer.resize_unset(rewrite_buffer_bytes)) return failure{.code = errc::out_of_memory};
            if (auto read = other.read(place.source, begin, {buffer.data(), bytes.size()}); !read) return read;
            theirs = {buffer.data(), bytes.size()};
        }
        if (std::memcmp(theirs.data(), bytes.data(), bytes.size()) != 0) {
            std::size_t at = 0;
            while (theirs[at] == bytes[at]) ++at;
            return failure{.code = errc::bytes_differ, .file = text{other.source_name(place.source)}, .tensor = text{tensors[t].name},
                           .offset = offset + at};
        }
        release.used(place.source, begin, begin + bytes.size());
        return {};
    });
}

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
