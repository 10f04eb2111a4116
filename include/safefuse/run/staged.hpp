// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs plans, and copies tensors, into memory that the processor cannot write, such as a
// GPU's. Opt-in. This header knows no GPU: a device is an object of the caller's with a few members
// (copy_device). Bytes go through page-locked slabs. Readers fill some slabs while the device
// copies from others, and slabs are reused.
//
//     source --readers fill--> slab --device copies--> destination
//
// All staging memory is slab_count slabs of slab_bytes. On POSIX systems whose C library has
// threads in a separate library, link with -pthread.
#ifndef SAFEFUSE_RUN_STAGED_HPP
#define SAFEFUSE_RUN_STAGED_HPP

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/os_threads.hpp>
#include <safefuse/run/detail/staged_job.hpp>
#include <safefuse/run/parallel.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Host memory that a device reads from; page-locked if the device needs that.
struct staging_memory {
    std::byte* data = nullptr;   ///< aligned to 4096 bytes
    std::size_t size_bytes = 0;  ///< at least the size asked for
};

/// One copy from staging memory to a device.
template <class Destination>
struct staged_copy {
    Destination to{};              ///< destination of the device's type
    std::uint64_t offset = 0;      ///< offset of the first byte in `to`
    span<const std::byte> from{};  ///< staging memory, unchanged until the copy is done
};

/// A device that copies from staging memory to where the processor cannot write. All members may be
/// called from many threads at once, but never for the same ticket at once.
///
///     destination        where copies go: an address or a buffer's handle; trivially copyable
///     ticket             stands for a set of copies to wait for; reused, and destroyed before the
///                        device
///     allocate_staging   returns size_bytes or more, aligned to 4096
///     free_staging       called once for each allocation, after all its copies were waited for
///     copy               enqueues a copy of `from` to byte `offset` of `to` in a lane and returns;
///                        `from` is read later
///     mark               sets the ticket after all copies enqueued so far in that lane
///     is_done            returns whether all copies before the ticket's mark are done; never waits
///     wait               returns when they are done
///
/// A lane is a number below staging_options::slab_count. Copies of one lane run in order; lanes may
/// share the device's queues. These members are optional:
///
///     prepare(ticket)    prepares a ticket once, when the loader is made (an event, for example),
///                        so that nothing is allocated later
///     copy_batch(span<const staged_copy<destination>>, lane)
///                        does copy for all copies of one or some slabs in one call. While the
///                        device is busy, the loader collects a few slabs for it; their tickets
///                        are then marked in the lane of the first. The failure names the first
///                        tensor of the batch, unless the device names one
///     let_wait(stream, ticket)
///                        makes a stream of the caller wait for the ticket, without blocking
///
/// Failures of a device are device_failed, or a code that fits better.
template <class Device>
concept copy_device = std::is_trivially_copyable_v<typename Device::destination> &&
                      std::default_initializable<typename Device::destination> &&
                      std::is_nothrow_default_constructible_v<typename Device::ticket> &&
                      std::is_nothrow_move_constructible_v<typename Device::ticket> &&
                      requires(Device& device, const typename Device::destination& to,
                               std::uint64_t offset, span<const std::byte> from, std::size_t number,
                               staging_memory memory, typename Device::ticket& ticket) {
                          {
                              device.allocate_staging(number)
                          } noexcept -> std::same_as<result<staging_memory>>;
                          { device.free_staging(memory) } noexcept;
                          {
                              device.copy(to, offset, from, number)
                          } noexcept -> std::same_as<result<void>>;
                          { device.mark(ticket, number) } noexcept -> std::same_as<result<void>>;
                          { device.is_done(ticket) } noexcept -> std::same_as<result<bool>>;
                          { device.wait(ticket) } noexcept -> std::same_as<result<void>>;
                      };

/// Where an output goes, and which of its bytes.
template <class Destination>
struct staged_target {
    Destination to{};              ///< destination of the device's type
    std::uint64_t offset = 0;      ///< offset in `to` of the first byte written
    std::uint64_t size_bytes = 0;  ///< number of bytes; 0 skips the output
    /// Offset in the output of the first byte. If unknown, the whole output is made and size_bytes
    /// must be its size.
    std::uint64_t begin = unknown;
};

/// A plan and the targets of its outputs: targets[i] is for plan->outputs()[i].
template <class Destination>
struct staged_plan {
    /// Must stay valid until the call returns.
    const copy_plan* plan = nullptr;
    /// One target per output of the plan.
    span<const staged_target<Destination>> targets{};
};

/// A tensor to be copied unchanged.
template <class Destination>
struct staged_tensor {
    std::uint32_t tensor = 0;             ///< index in the tensor set
    staged_target<Destination> target{};  ///< where it goes
};

/// How much staging memory a loader takes, and how it is used.
struct staging_options {
    /// Bytes per slab. All slabs in flight should fit the last-level cache, so that the device
    /// reads from there.
    std::size_t slab_bytes = std::size_t{3} << 20;
    /// Number of slabs: two per reader at the largest default_reader_count().
    std::size_t slab_count = 28;
    /// Limit for slab_bytes * slab_count.
    std::size_t most_bytes = std::size_t{128} << 20;
    /// Outputs whose runs in the source are shorter on average are assembled by the processor and
    /// copied window by window.
    std::uint64_t least_run_bytes = std::uint64_t{64} << 10;
};

/// Number of readers that fill slabs fast enough for a device on a 50 GB/s bus: seven eighths of
/// the processors that the process may use, at least 1 and at most 14. The rest is left to the
/// driver and the OS.
[[nodiscard]] inline std::size_t default_reader_count() noexcept {
    const std::size_t processors = detail::os::processor_count();
    const std::size_t most = 14, count = processors - processors / 8;
    return count < most ? count : most;
}

/// The outputs of one call, to be asked after: output i of the plan, or tensor i of the list.
/// Numbers; nothing is held.
struct staged_outputs {
    /// The loader's number of the first output.
    std::uint64_t first = 0;
    std::uint64_t count = 0;  ///< number of outputs
};

/// The bytes of an output that one of several ranks makes, so that an in-place all-gather completes
/// the output. The buffer has ranks * stride_bytes bytes; bytes after the output are never read.
struct byte_share {
    /// `rank` * stride_bytes, or the size of the output if that is less.
    std::uint64_t begin = 0;
    std::uint64_t size_bytes = 0;    ///< may be 0
    std::uint64_t stride_bytes = 0;  ///< bytes that each rank sends
};

/// Divides size_bytes among ranks, in multiples of block_size.
///   units   bytes; size_bytes + ranks * block_size must fit 64 bits; ranks and block_size are not
///           0
[[nodiscard]] constexpr byte_share share_of(std::uint64_t size_bytes, std::uint64_t rank,
                                            std::uint64_t ranks,
                                            std::uint64_t block_size = 4096) noexcept {
    const std::uint64_t each = size_bytes / ranks + (size_bytes % ranks != 0);
    const std::uint64_t stride = (each / block_size + (each % block_size != 0)) * block_size;
    byte_share share{.stride_bytes = stride};
    share.begin = rank > size_bytes / (stride == 0 ? 1 : stride) ? size_bytes : rank * stride;
    share.size_bytes = size_bytes - share.begin < stride ? size_bytes - share.begin : stride;
    return share;
}

/// An executor that keeps its threads between calls, because starting threads for every plan takes
/// as long as copying a slab. Calls run one at a time; others wait for their turn.
class standing_threads {
public:
    /// Starts threads. `count` includes the thread that calls; at least 1 and at most
    /// threads::most. If the OS starts fewer threads, fewer do the work.
    ///   fails   out_of_memory
    static result<standing_threads> make(std::size_t count) noexcept {
        standing_threads made;
        made.shared_ = new (std::nothrow) shared;
        if (made.shared_ == nullptr) return detail::lack_of_memory{};
        const std::size_t most = count < threads::most ? count : threads::most;
        if (!made.shared_->helpers.reserve(most)) return detail::lack_of_memory{};
        made.shared_->call = {[](void* of) noexcept { static_cast<shared*>(of)->serve(); },
                              made.shared_};
        detail::os::thread started{};
        while (made.count() < most && detail::os::start_thread(started, made.shared_->call))
            static_cast<void>(made.shared_->helpers.push(started));
        return made;
    }
    /// The moved-from executor has no threads and must not be called.
    standing_threads(standing_threads&& other) noexcept : shared_{other.shared_} {
        other.shared_ = nullptr;
    }
    /// The moved-from executor has no threads and must not be called.
    standing_threads& operator=(standing_threads&& other) noexcept {
        standing_threads taken{std::move(other)};
        shared* const mine = shared_;
        shared_ = taken.shared_;
        taken.shared_ = mine;
        return *this;
    }
    ~standing_threads() {
        if (shared_ == nullptr) return;
        shared_->stops = true;
        shared_->round.fetch_add(1, std::memory_order_release);
        shared_->round.notify_all();
        for (detail::os::thread& each : shared_->helpers) detail::os::wait_for(each);
        delete shared_;
    }

    /// Number of threads that do the work, including the caller's.
    [[nodiscard]] std::size_t count() const noexcept {
        return shared_ == nullptr ? 0 : shared_->helpers.size() + 1;
    }

    /// Runs the pieces and returns when all are done.
    void operator()(std::size_t count, const indexed_task& task) const noexcept {
        shared& with = *shared_;
        while (with.busy.test_and_set(std::memory_order_acquire))
            detail::wait_while(with.busy, true, std::memory_order_relaxed);
        with.task = &task;
        with.count = count;
        with.next.store(0, std::memory_order_relaxed);
        with.left.store(static_cast<std::uint32_t>(with.helpers.size()), std::memory_order_relaxed);
        with.round.fetch_add(1, std::memory_order_release);
        with.round.notify_all();
        with.run();
        for (std::uint32_t left; (left = with.left.load(std::memory_order_acquire)) != 0;)
            detail::wait_while(with.left, left, std::memory_order_acquire);
        with.busy.clear(std::memory_order_release);
        with.busy.notify_one();
    }

private:
    standing_threads() noexcept = default;

    struct shared {
        std::atomic<std::uint32_t> round{0};  // incremented for each call
        std::atomic<std::uint32_t> left{0};   // helpers that have not finished this round
        std::atomic<std::size_t> next{0};
        const indexed_task* task = nullptr;
        std::size_t count = 0;
        bool stops = false;
        std::atomic_flag busy;
        detail::os::thread_call call{};
        vector<detail::os::thread> helpers;

        void run() noexcept {
            for (std::size_t i = next++; i < count; i = next++) (*task)(i);
        }
        void serve() noexcept {
            for (std::uint32_t seen = 0;; ++seen) {
                detail::wait_while(round, seen, std::memory_order_acquire);
                if (stops) return;
                run();
                if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_one();
            }
        }
    };
    shared* shared_ = nullptr;
};

namespace detail {

/// Lock for very short sections. It blocks instead of spinning.
class short_lock {
public:
    explicit short_lock(std::atomic_flag& flag) noexcept : flag_{flag} {
        while (flag_.test_and_set(std::memory_order_acquire))
            detail::wait_while(flag_, true, std::memory_order_relaxed);
    }
    short_lock(const short_lock&) = delete;
    short_lock& operator=(const short_lock&) = delete;
    ~short_lock() {
        flag_.clear(std::memory_order_release);
        flag_.notify_one();
    }

private:
    std::atomic_flag& flag_;
};

}  // namespace detail

/// Runs plans, and copies tensors, to one device. Slabs are reused, and calls return while the
/// device still copies, so the device never idles between calls. One call at a time; several
/// loaders, one per device, may run at once and share sources.
///   memory  the staging memory of staging_options, and up to 1 MiB per slab if sources must be
///           read; only make() allocates memory of the device
template <copy_device Device>
class staged_loader {
public:
    /// Where copies go.
    using destination = typename Device::destination;
    /// Where an output goes.
    using target = staged_target<destination>;
    /// A tensor and where it goes.
    using tensor = staged_tensor<destination>;
    /// A plan and where its outputs go.
    using planned = staged_plan<destination>;

    /// Allocates the slabs. If the device refuses some of them but gives at least two, the loader
    /// uses those (see slab_count).
    ///   lifetime  the device must outlive the loader and stay at its address
    ///   fails   out_of_range (no bytes or no slabs, or too many; expected: most_bytes, actual:
    ///           what the options ask for), misaligned and wrong_buffer_size (what the device
    ///           returned), out_of_memory, and as the device's allocate_staging
    static result<staged_loader> make(Device& device SAFEFUSE_LIFETIMEBOUND,
                                      const staging_options& options = {}) noexcept {
        std::uint64_t wanted = 0;
        const bool fits = detail::checked_mul(options.slab_bytes, options.slab_count, wanted);
        if (!fits || wanted == 0 || wanted > options.most_bytes ||
            options.slab_count > UINT32_MAX / 2)
            return failure{.code = errc::out_of_range,
                           .detail = "staging memory",
                           .expected = options.most_bytes,
                           .actual = fits ? wanted : unknown};
        staged_loader made;
        made.state_ = new (std::nothrow) state{device, options};
        if (made.state_ == nullptr || !made.state_->slabs.reserve(options.slab_count) ||
            !made.state_->ring.reserve(options.slab_count) ||
            !made.state_->idle.reserve(options.slab_count))
            return detail::lack_of_memory{};
        state& of = *made.state_;
        for (std::size_t i = 0; i < options.slab_count; ++i) {
            auto memory = device.allocate_staging(options.slab_bytes);
            if (!memory && i >= 2) break;
            if (!memory) return std::move(memory).error();
            const bool is_aligned = reinterpret_cast<std::uintptr_t>(memory->data) % 4096 == 0;
            if (memory->data == nullptr || memory->size_bytes < options.slab_bytes || !is_aligned) {
                if (memory->data != nullptr) device.free_staging(*memory);
                return failure{.code = is_aligned ? errc::wrong_buffer_size : errc::misaligned,
                               .detail = "staging memory",
                               .expected = is_aligned ? options.slab_bytes : 4096,
                               .actual = is_aligned ? memory->size_bytes : unknown};
            }
            slab one;
            one.memory = *memory;
            static_cast<void>(of.slabs.push(std::move(one)));  // memory was reserved
            static_cast<void>(of.ring.push(0));
            static_cast<void>(of.idle.push(static_cast<std::uint32_t>(i)));
            if constexpr (requires {
                              { device.prepare(one.ticket) } noexcept -> std::same_as<result<void>>;
                          })
                if (auto ready = device.prepare(of.slabs.back().ticket); !ready)
                    return std::move(ready).error();
        }
        of.available.store(static_cast<std::uint32_t>(of.slabs.size()), std::memory_order_relaxed);
        return made;
    }
    /// The moved-from loader has no slabs and must not be called.
    staged_loader(staged_loader&& other) noexcept : state_{other.state_} { other.state_ = nullptr; }
    /// The moved-from loader has no slabs and must not be called.
    staged_loader& operator=(staged_loader&& other) noexcept {
        staged_loader taken{std::move(other)};
        state* const mine = state_;
        state_ = taken.state_;
        taken.state_ = mine;
        return *this;
    }
    /// Waits for all copies. If waiting for a slab failed, the slab is not freed, because the
    /// device may still read it.
    ~staged_loader() {
        if (state_ == nullptr) return;
        static_cast<void>(drain());
        for (slab& each : state_->slabs)
            if (!each.is_lost) state_->device.free_staging(each.memory);
        delete state_;
    }

    /// Number of slabs: as many as asked for, unless the device refused some.
    [[nodiscard]] std::size_t slab_count() const noexcept { return state_->slabs.size(); }
    /// Size of the staging memory in bytes.
    [[nodiscard]] std::uint64_t staging_bytes() const noexcept {
        return std::uint64_t{state_->slabs.size()} * state_->options.slab_bytes;
    }

    /// Fuses outputs of a plan on the device. targets[i] is for plan.outputs()[i]. The executor's
    /// threads are the readers; at most as many as there are slabs work at once. Returns when the
    /// last copy is enqueued. Use finish(), wait() or let_wait() before the bytes are needed.
    ///   lifetime  the plan is needed only until the call returns
    ///   fails   wrong_buffer_size (wrong number of targets, or of bytes), out_of_range (bytes
    ///           after the end of the output), parts_differ (the plan's equal_blocks differ),
    ///           canceled (progress returned false), out_of_memory, and as reading the sources and
    ///           as the device's calls do. The failure is the first in the order of the plan and
    ///           names its tensor (of a batch: see copy_device). No copy is then pending, of this
    ///           call or an earlier one; which bytes were written is unspecified. If the device
    ///           fails to wait, the loader is broken: every later call returns that failure
    template <executor Executor>
    result<staged_outputs> fuse(const copy_plan& plan, span<const target> targets, Executor&& run,
                                progress_ref progress = {}) noexcept {
        const planned one{&plan, targets};
        return fuse(span<const planned>{&one, 1}, run, progress);
    }

    /// Fuses outputs of several plans in order. Readers go from plan to plan without waiting for
    /// each other.
    ///   fails   as fuse of one plan; size_overflow
    template <executor Executor>
    result<staged_outputs> fuse(span<const planned> plans, Executor&& run,
                                progress_ref progress = {}) noexcept {
        std::uint64_t count = 0;
        for (const planned& each : plans) {
            const span<const plan_output> outputs = each.plan->outputs();
            if (each.targets.size() != outputs.size())
                return failure{.code = errc::wrong_buffer_size,
                               .scope = text{each.plan->scope()},
                               .detail = "the number of targets is not the number of outputs",
                               .expected = outputs.size(),
                               .actual = each.targets.size()};
            count += outputs.size();
        }
        if (count > UINT32_MAX) return failure{.code = errc::size_overflow, .actual = count};
        struct wanted_output {
            const plan_output* output;
            const target* to;
        };
        vector<wanted_output> wanted;
        vector<detail::staged_window> windows;
        if (!wanted.reserve(static_cast<std::size_t>(count)) ||
            !windows.resize(static_cast<std::size_t>(count)))
            return detail::lack_of_memory{};
        for (const planned& each : plans)
            for (std::size_t i = 0; i < each.targets.size(); ++i) {
                const plan_output& output = each.plan->outputs()[i];
                auto fits = window_of(each.targets[i], output.name, output.size_bytes,
                                      windows[wanted.size()]);
                if (!fits) return std::move(fits).error();
                static_cast<void>(wanted.push({&output, &each.targets[i]}));  // memory was reserved
            }
        detail::staged_job job{state_->options.slab_bytes, state_->options.least_run_bytes};
        std::size_t first = 0;
        for (const planned& each : plans) {
            const span<const detail::staged_window> own =
                windows.view().subspan(first, each.targets.size());
            if (auto equal = detail::compare_equal_sources(*each.plan, own); !equal)
                return std::move(equal).error();
            if (auto divided = job.divide(*each.plan, own, static_cast<std::uint32_t>(first));
                !divided)
                return std::move(divided).error();
            first += own.size();
        }
        const auto name_of = [&](std::size_t i) noexcept { return wanted[i].output->name; };
        const auto target_of = [&](std::size_t i) noexcept -> const target& {
            return *wanted[i].to;
        };
        return run_job(job, windows.view(), name_of, target_of, detail::executor_ref{run},
                       progress);
    }

    /// Copies tensors of a set unchanged, in the order of their sources. Small tensors share slabs.
    ///   fails   tensor_not_found, and as fuse
    template <executor Executor>
    result<staged_outputs> load(const tensor_set_ref& set, span<const tensor> tensors,
                                Executor&& run, progress_ref progress = {}) noexcept {
        struct located {
            tensor_location place;
            std::uint32_t number;
        };
        vector<detail::staged_window> windows;
        vector<located> order;
        if (!windows.resize(tensors.size()) || !order.reserve(tensors.size()))
            return detail::lack_of_memory{};
        if (tensors.size() > UINT32_MAX)
            return failure{.code = errc::size_overflow, .actual = tensors.size()};
        for (std::uint32_t i = 0; i < tensors.size(); ++i) {
            if (tensors[i].tensor >= set.size())
                return failure{.code = errc::tensor_not_found,
                               .expected = set.size(),
                               .actual = tensors[i].tensor};
            const tensor_location place = set.place(tensors[i].tensor);
            if (auto fits = window_of(tensors[i].target, set.spec(tensors[i].tensor).name,
                                      place.size_bytes, windows[i]);
                !fits)
                return std::move(fits).error();
            if (!order.push({place, i})) return detail::lack_of_memory{};
        }
        const auto before = [](const located& a, const located& b) noexcept {
            return a.place.source != b.place.source ? a.place.source < b.place.source
                                                    : a.place.offset < b.place.offset;
        };
        if (!detail::sort(order.view(), before)) return detail::lack_of_memory{};
        detail::staged_job job{state_->options.slab_bytes, state_->options.least_run_bytes};
        if (auto from = job.read_from(set); !from) return std::move(from).error();
        for (const located& each : order) {
            const detail::staged_window& window = windows[each.number];
            auto added =
                job.add_run(each.number, each.place.source, each.place.offset + window.begin,
                            window.begin, window.size_bytes);
            if (!added) return std::move(added).error();
        }
        const auto name_of = [&](std::size_t i) noexcept {
            return set.spec(tensors[i].tensor).name;
        };
        const auto target_of = [&](std::size_t i) noexcept -> const target& {
            return tensors[i].target;
        };
        return run_job(job, windows.view(), name_of, target_of, detail::executor_ref{run},
                       progress);
    }

    /// Whether all bytes of output i of a call are on the device. Never waits.
    ///   fails   as the device's is_done
    result<bool> is_ready(const staged_outputs& outputs, std::uint64_t i) noexcept {
        if (state_->is_broken.load(std::memory_order_acquire)) return why_broken();
        for (slab& each : state_->slabs) {
            if (!each.holds(outputs.first + i)) continue;
            auto done = state_->device.is_done(each.ticket);
            if (!done || !*done) return done;
        }
        return true;
    }

    /// Returns when all bytes of output i of a call are on the device.
    ///   fails   as the device's wait; the failure names a tensor
    result<void> wait(const staged_outputs& outputs, std::uint64_t i) noexcept {
        if (state_->is_broken.load(std::memory_order_acquire)) return why_broken();
        for (slab& each : state_->slabs)
            if (each.holds(outputs.first + i))
                if (auto waited = wait_for(each); !waited) return waited;
        return {};
    }

    /// Makes a stream of the caller wait until all bytes of output i of a call are on the device.
    /// Does not block the calling thread.
    ///   fails   as the device's let_wait
    template <class Stream>
        requires requires(Device& device, const Stream& stream, typename Device::ticket& ticket) {
            { device.let_wait(stream, ticket) } noexcept -> std::same_as<result<void>>;
        }
    result<void> let_wait(const Stream& stream, const staged_outputs& outputs,
                          std::uint64_t i) noexcept {
        if (state_->is_broken.load(std::memory_order_acquire)) return why_broken();
        for (slab& each : state_->slabs)
            if (each.holds(outputs.first + i))
                if (auto done = state_->device.let_wait(stream, each.ticket); !done) return done;
        return {};
    }

    /// Returns when the device has done all copies.
    ///   fails   as the device's wait; the failure names a tensor
    result<void> finish() noexcept { return drain(); }

private:
    struct slab {
        staging_memory memory{};
        typename Device::ticket ticket{};
        vector<std::byte> scratch;                // buffer for reading what is assembled
        vector<staged_copy<destination>> copies;  // of this slab, and of others of its batch
        text tensor{};                            // first tensor in the slab
        std::size_t fill = 0;                     // number of the fill in its call
        // loader's numbers of the outputs in the slab
        std::uint64_t first_output = 0, last_output = 0;
        bool is_in_flight = false;  // the ticket must be waited for
        bool is_lost = false;       // waiting failed: never filled or freed again

        [[nodiscard]] bool holds(std::uint64_t output) const noexcept {
            return is_in_flight && first_output <= output && output <= last_output;
        }
    };
    /// Slabs whose copies are enqueued in one call of copy_batch.
    struct batch {
        static constexpr std::size_t most = 8;
        std::uint32_t lanes[most] = {};
        std::size_t count = 0;
    };
    struct state {
        state(Device& of, const staging_options& chosen) noexcept : device{of}, options{chosen} {}

        Device& device;
        staging_options options;
        vector<slab> slabs;
        // Slabs that the device copies from, oldest first: a ring with room for all slabs.
        vector<std::uint32_t> ring;
        std::size_t front = 0, in_flight = 0;
        // Free slabs whose copies are done, the most recently used on top, since most of it is
        // still in the cache.
        vector<std::uint32_t> idle;
        // Filled slabs whose copies are enqueued with those of the next ones, in one batch.
        batch waiting{};
        // Number of slabs in `ring` and `idle`. Larger if `is_broken`, so that nobody waits.
        std::atomic<std::uint32_t> available{0};
        std::atomic<bool> is_broken{false};
        std::atomic_flag lock;
        failure why{};
        std::uint64_t next_output = 1;
    };

    /// One call, shared by all its readers.
    struct call {
        const detail::staged_job& job;
        std::uint64_t first_output;
        progress_ref progress;
        std::atomic<std::size_t> next{0};
        std::atomic<std::size_t> first_failed{detail::no_position};
        std::atomic<bool> is_canceled{false};
        std::atomic_flag lock;
        failure why{};
        run_progress at{};

        /// Keeps the failure if no earlier fill has failed.
        void fail(std::size_t fill, failure&& with) noexcept {
            const detail::short_lock locked{lock};
            if (fill >= first_failed.load(std::memory_order_relaxed)) return;
            first_failed.store(fill, std::memory_order_relaxed);
            why = std::move(with);
        }
    };

    staged_loader() noexcept = default;

    static result<void> window_of(const target& wanted, std::string_view name,
                                  std::uint64_t size_bytes,
                                  detail::staged_window& window) noexcept {
        if (wanted.size_bytes == 0) return {};
        std::uint64_t end = 0;
        if (wanted.begin == unknown) {
            if (wanted.size_bytes != size_bytes)
                return failure{.code = errc::wrong_buffer_size,
                               .tensor = text{name},
                               .expected = size_bytes,
                               .actual = wanted.size_bytes};
        } else if (!detail::checked_add(wanted.begin, wanted.size_bytes, end) || end > size_bytes) {
            return failure{.code = errc::out_of_range,
                           .tensor = text{name},
                           .expected = size_bytes,
                           .actual = end};
        }
        if (!detail::checked_add(wanted.offset, wanted.size_bytes, end))
            return failure{
                .code = errc::size_overflow, .tensor = text{name}, .offset = wanted.offset};
        window = {wanted.begin == unknown ? 0 : wanted.begin, wanted.size_bytes};
        return {};
    }

    template <class NameOf, class TargetOf>
    result<staged_outputs> run_job(const detail::staged_job& job,
                                   span<const detail::staged_window> windows, const NameOf& name_of,
                                   const TargetOf& target_of, const detail::executor_ref& executor,
                                   progress_ref progress) noexcept {
        if (state_->is_broken.load(std::memory_order_relaxed)) return state_->why;
        const staged_outputs numbers{state_->next_output, windows.size()};
        state_->next_output += windows.size();
        call one{job,
                 numbers.first,
                 progress,
                 {},
                 {detail::no_position},
                 {},
                 {},
                 {},
                 {{}, 0, job.size_bytes()}};
        const std::size_t count = job.fill_count();
        const auto run_next = [&](std::size_t) noexcept {
            const std::size_t i = one.next.fetch_add(1, std::memory_order_relaxed);
            // After a failure, later fills are skipped. Earlier ones still run, because they may
            // fail too.
            if (i >= count || one.is_canceled.load(std::memory_order_relaxed) ||
                one.first_failed.load(std::memory_order_relaxed) < i)
                return;
            failed_copy failed{i};
            auto done = run_fill(one, i, windows, name_of, target_of, failed);
            if (!done) one.fail(failed.fill, std::move(done).error());
        };
        if (count > 1) executor(count, indexed_task{run_next});
        while (one.next.load(std::memory_order_relaxed) < count)
            run_next(0);  // fills that the executor did not run; normally none
        failed_copy failed_last;
        if (auto done = hand_over(std::exchange(state_->waiting, {}), failed_last); !done)
            one.fail(failed_last.fill, std::move(done).error());
        const bool failed = one.first_failed.load(std::memory_order_relaxed) != detail::no_position;
        if (!failed && !one.is_canceled.load(std::memory_order_relaxed)) return numbers;
        auto drained = drain();
        if (failed) return std::move(one.why);
        if (!drained) return std::move(drained).error();
        return failure{
            .code = errc::canceled, .expected = one.at.total_bytes, .actual = one.at.done_bytes};
    }

    static constexpr bool takes_batches =
        requires(Device& device, span<const staged_copy<destination>> copies, std::size_t lane) {
            { device.copy_batch(copies, lane) } noexcept -> std::same_as<result<void>>;
        };

    /// What failed: a fill of the call, and a copy from its slab.
    struct failed_copy {
        std::size_t fill = 0, copy = 0;
    };

    /// Fills one slab and passes it to the device, perhaps together with slabs that are filled
    /// later.
    template <class NameOf, class TargetOf>
    result<void> run_fill(call& of, std::size_t number, span<const detail::staged_window> windows,
                          const NameOf& name_of, const TargetOf& target_of,
                          failed_copy& failed) noexcept {
        std::size_t lane = 0;
        if (auto taken = take_slab(lane); !taken) return taken;
        slab& into = state_->slabs[lane];
        std::uint32_t output = 0;
        result<void> done = of.job.fill(number, into.memory.data, into.scratch, output);
        std::uint64_t size_bytes = 0;
        if (done) {
            const span<const detail::staged_piece> pieces = of.job.pieces(number);
            output = pieces[0].output;
            into.first_output = into.last_output = of.first_output + output;
            for (const detail::staged_piece& each : pieces) {
                const std::uint64_t held = of.first_output + each.output;
                if (held < into.first_output) into.first_output = held;
                if (held > into.last_output) into.last_output = held;
                size_bytes += each.size_bytes;
            }
            into.tensor = text{name_of(output)};
            into.fill = number;
            done = list_copies(into, pieces, windows, target_of);
        }
        if (!done) {
            if (done.error().tensor.empty()) done.error().tensor = text{name_of(output)};
            give_slab(lane);
            return done;
        }
        if (auto given = hand_over(join_batch(lane), failed); !given) {
            if (given.error().tensor.empty())
                given.error().tensor = text{name_of(of.job.pieces(number)[failed.copy].output)};
            return given;
        }
        const detail::short_lock locked{of.lock};
        of.at.tensor = name_of(output);
        of.at.done_bytes += size_bytes;
        if (!of.is_canceled.load(std::memory_order_relaxed) && !of.progress(of.at))
            of.is_canceled.store(true, std::memory_order_relaxed);
        return {};
    }

    /// Lists the copies of a filled slab.
    template <class TargetOf>
    static result<void> list_copies(slab& from, span<const detail::staged_piece> pieces,
                                    span<const detail::staged_window> windows,
                                    const TargetOf& target_of) noexcept {
        from.copies.clear();
        for (const detail::staged_piece& each : pieces) {
            const target& to = target_of(each.output);
            if (!from.copies.push({to.to,
                                   to.offset + (each.to - windows[each.output].begin),
                                   {from.memory.data + each.at, each.size_bytes}}))
                return detail::lack_of_memory{};
        }
        return {};
    }

    /// Adds a filled slab to the waiting ones. Returns the slabs to hand over now: none while the
    /// device has other slabs to copy from and few slabs wait.
    batch join_batch(std::size_t lane) noexcept {
        state& of = *state_;
        const detail::short_lock locked{of.lock};
        of.waiting.lanes[of.waiting.count++] = static_cast<std::uint32_t>(lane);
        if constexpr (takes_batches) {
            // At most an eighth of the slabs waits, so that some are always filled or copied from.
            const std::size_t eighth = of.slabs.size() / 8,
                              may_wait = eighth < batch::most ? eighth : batch::most - 1;
            if (of.waiting.count <= may_wait && of.in_flight > may_wait) return {};
        }
        return std::exchange(of.waiting, {});
    }

    /// Enqueues the copies of some slabs, in the lane of the first, and marks their end. The
    /// failure of a batch names its first tensor; that of a single copy names none.
    result<void> hand_over(const batch& slabs, failed_copy& failed) noexcept {
        if (slabs.count == 0) return {};
        state& of = *state_;
        const std::size_t lane = slabs.lanes[0];
        result<void> done = enqueue(slabs, lane, failed.copy);
        const slab* first = &of.slabs[lane];
        for (std::size_t i = 0; i < slabs.count; ++i) {
            slab& each = of.slabs[slabs.lanes[i]];
            if (each.fill < first->fill) first = &each;
            // if a copy failed, others may still have been enqueued
            auto marked = of.device.mark(each.ticket, lane);
            if (marked) {
                each.is_in_flight = true;
            } else {
                lose(each, marked.error());
                if (done) done = std::move(marked);
            }
        }
        if (!done) {
            failed.fill = first->fill;
            if (takes_batches && done.error().tensor.empty()) done.error().tensor = first->tensor;
        }
        for (std::size_t i = 0; i < slabs.count; ++i)
            if (!of.slabs[slabs.lanes[i]].is_lost) give_slab(slabs.lanes[i]);
        return done;
    }
    result<void> enqueue(const batch& slabs, std::size_t lane, std::size_t& failed) noexcept {
        state& of = *state_;
        vector<staged_copy<destination>>& copies = of.slabs[lane].copies;
        for (std::size_t i = 1; i < slabs.count; ++i)
            for (const staged_copy<destination>& each : of.slabs[slabs.lanes[i]].copies)
                if (!copies.push(each)) return detail::lack_of_memory{};
        if constexpr (takes_batches) {
            return of.device.copy_batch(copies.view(), lane);
        } else {
            for (failed = 0; failed < copies.size(); ++failed) {
                const staged_copy<destination>& each = copies[failed];
                if (auto done = of.device.copy(each.to, each.offset, each.from, lane); !done)
                    return done;
            }
            failed = 0;
            return {};
        }
    }

    /// Takes a slab to fill and stores its number in `lane`: the last one whose copies are done, or
    /// else the oldest in flight, which is waited for.
    result<void> take_slab(std::size_t& lane) noexcept {
        state& of = *state_;
        for (;;) {
            if (of.is_broken.load(std::memory_order_acquire)) return why_broken();
            std::uint32_t count = of.available.load(std::memory_order_acquire);
            if (count == 0) {
                detail::wait_while(of.available, 0u, std::memory_order_acquire);
            } else if (of.available.compare_exchange_weak(count, count - 1,
                                                          std::memory_order_acq_rel)) {
                break;
            }
        }
        {
            const detail::short_lock locked{of.lock};
            if (of.is_broken.load(std::memory_order_relaxed)) return of.why;
            while (of.in_flight > 0) {
                slab& oldest = of.slabs[of.ring[of.front]];
                auto done = of.device.is_done(oldest.ticket);
                if (!done || !*done) break;  // the thread that waits reports a failure
                oldest.is_in_flight = false;
                static_cast<void>(of.idle.push(next_in_flight()));  // memory was reserved
            }
            if (!of.idle.empty()) {
                lane = of.idle.back();
                of.idle.pop();
                return {};
            }
            lane = next_in_flight();
        }
        return wait_for(of.slabs[lane]);
    }
    /// Removes the oldest slab from the ring.
    std::uint32_t next_in_flight() noexcept {
        state& of = *state_;
        const std::uint32_t oldest = of.ring[of.front];
        of.front = of.front + 1 < of.ring.size() ? of.front + 1 : 0;
        --of.in_flight;
        return oldest;
    }
    void give_slab(std::size_t lane) noexcept {
        state& of = *state_;
        {
            const detail::short_lock locked{of.lock};
            if (of.is_broken.load(std::memory_order_relaxed)) return;  // no slab is taken any more
            if (of.slabs[lane].is_in_flight) {
                const std::size_t back = of.front + of.in_flight++;
                of.ring[back < of.ring.size() ? back : back - of.ring.size()] =
                    static_cast<std::uint32_t>(lane);
            } else {
                // memory was reserved
                static_cast<void>(of.idle.push(static_cast<std::uint32_t>(lane)));
            }
        }
        of.available.fetch_add(1, std::memory_order_acq_rel);
        of.available.notify_one();
    }

    /// Waits for the copies of a slab.
    result<void> wait_for(slab& of) noexcept {
        if (!of.is_in_flight) return {};
        auto waited = state_->device.wait(of.ticket);
        if (waited) {
            of.is_in_flight = false;
            return waited;
        }
        if (waited.error().tensor.empty()) waited.error().tensor = of.tensor;
        lose(of, waited.error());
        return waited;
    }
    void lose(slab& gone, const failure& why) noexcept {
        state& of = *state_;
        {
            const detail::short_lock locked{of.lock};
            gone.is_lost = true;
            gone.is_in_flight = false;
            if (!of.is_broken.load(std::memory_order_relaxed)) {
                of.why = why;
                of.is_broken.store(true, std::memory_order_release);
            }
        }
        // wake waiting threads, so that they see is_broken
        of.available.fetch_add(1, std::memory_order_acq_rel);
        of.available.notify_all();
    }
    failure why_broken() noexcept {
        const detail::short_lock locked{state_->lock};
        return state_->why;
    }

    /// Waits for all slabs. Called while no slab is being filled.
    result<void> drain() noexcept {
        result<void> first;
        for (slab& each : state_->slabs) {
            auto waited = wait_for(each);
            if (!waited && first) first = std::move(waited);
        }
        if (first && state_->is_broken.load(std::memory_order_relaxed)) return state_->why;
        return first;
    }

    state* state_ = nullptr;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
