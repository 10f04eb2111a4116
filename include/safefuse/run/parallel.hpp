// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: fuses on many threads. Opt-in. An executor is anything that runs indexed tasks, so the
// caller's threads can be used. On POSIX systems whose C library has threads in a separate library,
// link with -pthread.
#ifndef SAFEFUSE_RUN_PARALLEL_HPP
#define SAFEFUSE_RUN_PARALLEL_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/os_threads.hpp>
#include <safefuse/run/detail/strided_copy.hpp>
#include <safefuse/run/fuse.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A task of numbered pieces that may run at once, on any thread, in any order. It consists of two
/// pointers and may be copied.
///   lifetime  valid until the executor that it was given to returns
class indexed_task {
public:
    /// A task that calls `body` with the index of a piece.
    template <class Body>
        requires(!std::is_same_v<Body, indexed_task> &&
                 std::is_nothrow_invocable_v<const Body&, std::size_t>)
    explicit indexed_task(const Body& body SAFEFUSE_LIFETIMEBOUND) noexcept
        : body_{&body}, call_{[](const void* what, std::size_t i) noexcept {
              (*static_cast<const Body*>(what))(i);
          }} {}

    /// Runs piece i.
    void operator()(std::size_t i) const noexcept { call_(body_, i); }

private:
    const void* body_;
    void (*call_)(const void*, std::size_t) noexcept;
};

/// A callable that takes a count and an indexed_task, runs the pieces 0 to count - 1, each once,
/// and returns when all have returned. A lambda turns a thread pool into one. It must not throw.
template <class Executor>
concept executor =
    requires(Executor& run, std::size_t count, const indexed_task& task) { run(count, task); };

/// An executor that starts threads for each call; the caller's thread works, too. If the OS starts
/// fewer threads, fewer do the work.
class threads {
public:
    /// Largest number of threads of one executor.
    static constexpr std::size_t most = 256;

    /// As many threads as the process can run at once.
    threads() noexcept : threads{detail::os::processor_count()} {}
    /// `count` threads including the caller's; at least 1 and at most `most`.
    explicit threads(std::size_t count) noexcept
        : count_{count == 0     ? 1
                 : count < most ? count
                                : most} {}

    /// Number of threads that do the work, including the caller's.
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

    /// Runs the pieces and returns when all are done.
    void operator()(std::size_t count, const indexed_task& task) const noexcept {
        queue work{task, count, {}};
        detail::os::thread_call call{[](void* of) noexcept { static_cast<queue*>(of)->run(); },
                                     &work};
        detail::os::thread started[most];
        const std::size_t helpers = (count < count_ ? count : count_) - (count == 0 ? 0 : 1);
        std::size_t running = 0;
        while (running < helpers && detail::os::start_thread(started[running], call)) ++running;
        work.run();
        while (running > 0) detail::os::wait_for(started[--running]);
    }

private:
    struct queue {
        const indexed_task& task;
        std::size_t count;
        std::atomic<std::size_t> next;

        void run() noexcept {
            for (std::size_t i = next++; i < count; i = next++) task(i);
        }
    };

    std::size_t count_;
};

/// Runs body(i) for every i in [0, count) on the executor's threads. `body` must be noexcept.
template <class Body, executor Executor = threads>
void parallel_for(std::size_t count, const Body& body, Executor&& run = Executor{}) noexcept {
    if (count > 0) run(count, indexed_task{body});
}

namespace detail {

/// A reference to any executor, so that fusing is compiled once for all executor types.
class executor_ref {
public:
    template <executor Executor>
    explicit executor_ref(Executor& run) noexcept
        // the executor may be a function, which static_cast cannot convert to void*
        : run_{reinterpret_cast<const void*>(&run)},
          call_{[](const void* what, std::size_t count, const indexed_task& task) noexcept {
              // The cast restores the constness of the caller's executor.
              (*reinterpret_cast<Executor*>(const_cast<void*>(what)))(count, task);
          }} {}
    void operator()(std::size_t count, const indexed_task& task) const noexcept {
        call_(run_, count, task);
    }

private:
    const void* run_;
    void (*call_)(const void*, std::size_t, const indexed_task&) noexcept;
};

/// Runs the copies of a plan in chunks of similar size, on any executor.
class chunked_fuse {
public:
    static constexpr std::uint64_t usual_chunk_bytes = std::uint64_t{1} << 20;

    /// Each chunk has at least `least_chunk_bytes` bytes.
    chunked_fuse(const copy_plan& plan, const output_memory& memory,
                 std::uint64_t least_chunk_bytes = usual_chunk_bytes) noexcept
        : plan_{plan}, memory_{memory}, least_chunk_bytes_{least_chunk_bytes} {}

    /// Runs all chunks and reports progress.
    result<void> run(const executor_ref& executor, const progress_ref& progress = {}) noexcept {
        progress_ = progress;
        if (auto divided = divide(); !divided) return divided;
        const std::size_t count = chunks_.empty() ? 0 : chunks_.size() - 1;
        const auto run_one = [this](std::size_t i) noexcept { run_chunk(i); };
        if (count > 1) executor(count, indexed_task{run_one});
        for (std::size_t i = 0; i < count; ++i)
            run_one(i);  // pieces that the executor did not run; normally none
        if (first_failed_ != no_position) return std::move(failure_);
        if (!is_canceled_ && !beyond_) return std::move(beyond_);
        if (!is_canceled_ && count > 0 && told_bytes_ < size_bytes_) tell(count - 1);
        if (is_canceled_)
            return failure{.code = errc::canceled,
                           .scope = text{plan_.scope()},
                           .expected = size_bytes_,
                           .actual = told_bytes_};
        return compare_all_equal(plan_, memory_);
    }

private:
    static constexpr std::size_t most_chunks = 1024;

    /// Splits the copies and finds the chunk boundaries. Neither depends on the number of threads.
    result<void> divide() noexcept {
        for (const copy_block& block : plan_.blocks())
            if (memory_[block.output] != nullptr) size_bytes_ += block.size_bytes();
        streams_ = size_bytes_ >= streamed_bytes;
        const std::uint64_t wanted = size_bytes_ / most_chunks + 1;
        const std::uint64_t chunk_bytes = wanted < least_chunk_bytes_ ? least_chunk_bytes_ : wanted;
        const tensor_set_ref& set = plan_.set();
        const auto keep = [this](const copy_block& part) noexcept { return parts_.push(part); };
        const span<const copy_block> blocks = plan_.blocks();
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            const copy_block& block = blocks[i];
            if (memory_[block.output] == nullptr) continue;
            if (const span<const std::byte> resident = set.source_bytes(block.source);
                !resident.empty()) {
                // Check the whole block, so that nothing is copied from or after a block that is
                // out of bounds.
                beyond_ = check_resident(set, block, resident);
                if (!beyond_) {
                    if (auto same = set.check(block.source); !same) beyond_ = std::move(same);
                    break;
                }
                if (!split(block, block_side::destination, chunk_bytes, keep))
                    return detail::lack_of_memory{};
                continue;
            }
            // blocks that are read together stay together: their parts are sorted by source offset
            const std::size_t first = parts_.size();
            std::uint64_t end = 0;
            const std::size_t count = blocks_among(blocks, i, memory_, end);
            for (std::size_t each = i; each < i + count; ++each)
                if (memory_[blocks[each].output] != nullptr &&
                    !split(blocks[each], block_side::source, chunk_bytes, keep))
                    return detail::lack_of_memory{};
            const auto before = [](const copy_block& a, const copy_block& b) noexcept {
                return a.source_offset < b.source_offset;
            };
            if (count > 1 && !sort(parts_.view().subspan(first, parts_.size() - first), before))
                return detail::lack_of_memory{};
            i += count - 1;
        }
        return draw_borders(chunk_bytes);
    }

    /// Begins a new chunk as soon as the previous one has enough bytes.
    result<void> draw_borders(std::uint64_t chunk_bytes) noexcept {
        std::uint64_t filled = 0;
        for (std::size_t i = 0; i < parts_.size(); filled += parts_[i++].size_bytes())
            if (i == 0 || filled >= chunk_bytes) {
                if (!chunks_.push(i)) return detail::lack_of_memory{};
                filled = 0;
            }
        if (!parts_.empty() && !chunks_.push(parts_.size())) return detail::lack_of_memory{};
        return {};
    }

    void run_chunk(std::size_t i) noexcept {
        if (taken_[i].test_and_set(std::memory_order_relaxed)) return;
        // A chunk after one that failed is not needed. Chunks before it are, because they may fail,
        // too.
        if (first_failed_.load(std::memory_order_relaxed) < i ||
            is_canceled_.load(std::memory_order_relaxed))
            return;
        buffer_slot* slot = nullptr;
        for (buffer_slot& each : slots_)
            if (!each.busy.test_and_set(std::memory_order_acquire)) {
                slot = &each;
                break;
            }
        vector<std::byte> own;
        const span<const copy_block> parts = parts_.view();
        auto done = run_blocks(plan_.set(), parts.subspan(chunks_[i], chunks_[i + 1] - chunks_[i]),
                               slot != nullptr ? slot->buffer : own, memory_, streams_);
        if (slot != nullptr) slot->busy.clear(std::memory_order_release);
        if (done) return note_done(i);
        while (lock_.test_and_set(std::memory_order_acquire)) {
        }
        if (i < first_failed_.load(std::memory_order_relaxed)) {
            first_failed_.store(i, std::memory_order_relaxed);
            failure_ = std::move(done).error();
        }
        lock_.clear(std::memory_order_release);
    }

    /// Counts a finished chunk. If another thread is reporting progress, this thread does not wait
    /// for it.
    void note_done(std::size_t i) noexcept {
        if (!progress_) return;
        std::uint64_t size_bytes = 0;
        for (std::size_t p = chunks_[i]; p < chunks_[i + 1]; ++p)
            size_bytes += parts_[p].size_bytes();
        done_bytes_.fetch_add(size_bytes, std::memory_order_relaxed);
        if (is_told_.test_and_set(std::memory_order_acquire)) return;
        if (!is_canceled_.load(std::memory_order_relaxed)) tell(i);
        is_told_.clear(std::memory_order_release);
    }
    /// Reports the progress of all chunks. Chunk i is the one just finished.
    void tell(std::size_t i) noexcept {
        told_bytes_ = done_bytes_.load(std::memory_order_relaxed);
        const plan_output& output = plan_.outputs()[parts_[chunks_[i]].output];
        if (!progress_({output.name, told_bytes_, size_bytes_}))
            is_canceled_.store(true, std::memory_order_relaxed);
    }

    /// Read buffers. Chunks reuse them, because fresh memory is slow.
    struct buffer_slot {
        std::atomic_flag busy;
        vector<std::byte> buffer;
    };

    const copy_plan& plan_;
    output_memory memory_;
    std::uint64_t least_chunk_bytes_;
    bool streams_ = false;
    vector<copy_block> parts_;
    vector<std::size_t> chunks_;               // chunk i is parts [chunks_[i], chunks_[i + 1])
    std::atomic_flag taken_[most_chunks + 2];  // one extra for a last, smaller chunk
    result<void> beyond_;
    buffer_slot slots_[64];
    std::atomic<std::size_t> first_failed_{no_position};
    std::atomic_flag lock_;
    failure failure_{};
    progress_ref progress_;
    std::uint64_t size_bytes_ = 0;
    std::uint64_t told_bytes_ = 0;  // bytes in the last report
    std::atomic<std::uint64_t> done_bytes_{0};
    std::atomic_flag is_told_;
    std::atomic<bool> is_canceled_{false};
};

/// Like fuse_one_by_one in fuse.hpp, on an executor's threads.
inline result<void> fuse_one_by_one(const copy_plan& plan, const buffer_provider_ref& buffer_for,
                                    const executor_ref& run, const progress_ref& progress) {
    std::uint64_t done_bytes = 0;
    const std::uint64_t total_bytes = plan.size_bytes();
    for (std::uint32_t i = 0; i < plan.outputs().size(); ++i) {
        const plan_output& output = plan.outputs()[i];
        const auto buffer = buffer_for(output);
        if (!buffer) return buffer.error();
        const auto watch = [&](const run_progress& at) noexcept {
            return progress({at.tensor, done_bytes + at.done_bytes, total_bytes});
        };
        auto done = chunked_fuse{plan, {i, buffer->data()}}.run(
            run, progress ? progress_ref{watch} : progress_ref{});
        if (!done) return done;
        done_bytes += output.size_bytes;
    }
    return {};
}

}  // namespace detail

/// Fuses all outputs of a plan as fuse(plan, buffers) does, on an executor's threads: `threads{}`
/// or the caller's own. Bytes and failure do not depend on the executor; the failure is the first
/// in the order of the plan. Which bytes were written before a failure is unspecified.
///   memory  up to 1 MiB per thread if sources must be read, and about as much as the plan's copies
///   fails   as fuse(plan, buffers); if a read was split, the failure names the part
template <executor Executor>
result<void> fuse(const copy_plan& plan, span<const span<std::byte>> buffers, Executor&& run,
                  progress_ref progress = {}) noexcept {
    if (auto fit = detail::check_buffers(plan, buffers); !fit) return fit;
    return detail::chunked_fuse{plan, detail::output_memory{buffers}}.run(detail::executor_ref{run},
                                                                          progress);
}
/// Overload for other containers of buffers.
///   fails   as the overload above; out_of_memory
template <buffer_list Buffers, executor Executor>
result<void> fuse(const copy_plan& plan, Buffers&& buffers, Executor&& run,
                  progress_ref progress = {}) noexcept {
    vector<span<std::byte>> list;
    for (auto& each : span{buffers})
        if (!list.push(each)) return detail::lack_of_memory{};
    return fuse(plan, list.view(), run, progress);
}
/// Makes all outputs of a plan one by one, as fuse(plan, buffer_for) does, each on an executor's
/// threads.
///   fails   as fuse(plan, buffer_for)
template <buffer_provider Provider, executor Executor>
result<void> fuse(const copy_plan& plan, Provider&& buffer_for, Executor&& run,
                  progress_ref progress = {}) {
    return detail::fuse_one_by_one(plan, detail::buffer_provider_ref{buffer_for},
                                   detail::executor_ref{run}, progress);
}

/// Fuses one output of a plan as fuse(plan, local_name, out) does, on an executor's threads.
///   fails   as fuse(plan, local_name, out); if a read was split, the failure names the part
template <executor Executor>
result<void> fuse(const copy_plan& plan, std::string_view local_name, span<std::byte> out,
                  Executor&& run, progress_ref progress = {}) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (out.size() != output->size_bytes)
        return failure{.code = errc::wrong_buffer_size,
                       .tensor = text{output->name},
                       .expected = output->size_bytes,
                       .actual = out.size()};
    const auto number = static_cast<std::uint32_t>(plan.index_of(local_name));
    return detail::chunked_fuse{plan, {number, out.data()}}.run(detail::executor_ref{run},
                                                                progress);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
