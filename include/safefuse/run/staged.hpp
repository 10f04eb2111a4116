// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: plans and tensors run into memory that the processor cannot write: of a GPU, say.
// Opt-in. It knows no GPU: a device is an object of the caller's with a few members (copy_device).
// Bytes go through page-locked slabs that are filled again and again, while the device copies from
// others.
//
//   a source --readers fill--> slab --the device copies--> destination        slab_count slabs of
//   slab_bytes are all the memory it takes
//
// POSIX systems with a C library that has threads in a library of their own want -pthread.
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

/// Memory of this machine that a device reads: page-locked, if it wants that.
struct staging_memory {
    std::byte* data = nullptr;   ///< aligned to 4096 bytes
    std::size_t size_bytes = 0;  ///< at least what was asked for
};

/// One copy from staging memory to a device.
template <class Destination>
struct staged_copy {
    Destination to{};              ///< the device's own
    std::uint64_t offset = 0;      ///< of the first byte, in `to`
    span<const std::byte> from{};  ///< staging memory, unchanged until the copy is done
};

/// Copies from staging memory to where the processor cannot write. All members are called from many
/// threads at once, but none twice at once with the same ticket.
///   destination       what copies go to: an address, a buffer's handle. Trivially copyable
///   ticket            what a set of copies is waited for by. It is used again and again, and
///   destroyed before the device allocate_staging  size_bytes or more, aligned to 4096 free_staging
///   called once for each, after all its copies were waited for copy              enqueues a copy
///   of `from` to byte `offset` of `to` in a lane and returns; `from` is read later mark sets the
///   ticket behind all copies that were enqueued in that lane is_done           whether all copies
///   before the ticket's mark are done; never waits wait              returns when they are
/// A lane is a number below staging_options::slab_count; copies of one lane are in order, whatever
/// device queues lanes share. Members more, used where they are there:
///   prepare(ticket)   makes a ticket ready, once, when the loader is made: an event, say, so that
///   nothing is allocated later copy_batch(span<const staged_copy<destination>>, lane)   copy, for
///   all copies of a slab at once let_wait(stream, ticket)                                    makes
///   a stream of the caller's wait for the ticket; nobody waits here
/// Failures of a device are device_failed, or what fits better.
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
    Destination to{};              ///< the device's own
    std::uint64_t offset = 0;      ///< in `to`, of the first byte that is made
    std::uint64_t size_bytes = 0;  ///< how many bytes are made; 0: the output is left out
    /// The first byte of the output that is made; unknown: the output is made whole and size_bytes
    /// must be its size.
    std::uint64_t begin = unknown;
};

/// A plan and where its outputs go: targets[i] is for plan->outputs()[i].
template <class Destination>
struct staged_plan {
    const copy_plan* plan = nullptr;                   ///< is there until the call returns
    span<const staged_target<Destination>> targets{};  ///< as many as the plan has outputs
};

/// A tensor to be copied as it is.
template <class Destination>
struct staged_tensor {
    std::uint32_t tensor = 0;             ///< number in the tensor set
    staged_target<Destination> target{};  ///< where it goes
};

/// How much staging memory a loader takes, and how it is used.
struct staging_options {
    /// Of each slab. What is in flight should stay in the last-level cache: the device then reads
    /// it from there.
    std::size_t slab_bytes = std::size_t{3} << 20;
    std::size_t slab_count = 24;  ///< two for each of default_reader_count()'s most
    /// The product of the two must not be more.
    std::size_t most_bytes = std::size_t{128} << 20;
    /// Outputs whose runs in the source are shorter on average are put together by the processor
    /// and copied window by window.
    std::uint64_t least_run_bytes = std::uint64_t{64} << 10;
};

/// How many readers fill slabs fast enough for a device behind a bus of 50 GB/s: three quarters of
/// the processors that the process may use, at least 1 and at most 12. The others are left to the
/// driver and to the system.
[[nodiscard]] inline std::size_t default_reader_count() noexcept {
    const std::size_t processors = detail::os::processor_count();
    const std::size_t most = 12, count = processors - processors / 4;
    return count < most ? count : most;
}

/// How far a call is.
struct staged_progress {
    std::uint64_t done_bytes = 0;   ///< handed to the device by this call
    std::uint64_t total_bytes = 0;  ///< what the call copies
};

/// A function that is told of progress, by one thread at a time, and answers whether to go on. It
/// refers to the callable, which must outlive it and must not throw.
class staged_progress_ref {
public:
    /// Nobody is told.
    staged_progress_ref() noexcept = default;
    /// A callable.
    template <class F>
        requires(!std::is_same_v<F, staged_progress_ref> &&
                 std::is_invocable_r_v<bool, F&, const staged_progress&>)
    staged_progress_ref(F& f SAFEFUSE_LIFETIMEBOUND) noexcept
        : object_{&f}, call_{[](const void* object, const staged_progress& progress) noexcept {
              // as const as the caller's was
              return static_cast<bool>((*static_cast<F*>(const_cast<void*>(object)))(progress));
          }} {}

    /// Tells it.
    bool operator()(const staged_progress& progress) const noexcept {
        return call_ == nullptr || call_(object_, progress);
    }

private:
    const void* object_ = nullptr;
    bool (*call_)(const void*, const staged_progress&) noexcept = nullptr;
};

/// The outputs of one call, to be asked after: output i of the plan, or tensor i of the list.
/// Numbers; nothing is held.
struct staged_outputs {
    std::uint64_t first = 0;  ///< the loader's number of the first
    std::uint64_t count = 0;  ///< how many there are
};

/// The bytes of an output that one of several ranks makes, so that an all-gather in place completes
/// it: the buffer has ranks * stride_bytes bytes, of which those behind the output are never read.
struct byte_share {
    std::uint64_t begin = 0;       ///< rank * stride_bytes, or the output's size where that is less
    std::uint64_t size_bytes = 0;  ///< may be 0
    std::uint64_t stride_bytes = 0;  ///< what each rank sends
};

/// Divides size_bytes among ranks, in multiples of a block_size.
///   units   size_bytes + ranks * block_size must fit 64 bits; ranks and block_size are not 0
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

/// An executor whose threads live as long as it: starting them for every plan takes as long as a
/// slab does. One call at a time runs; others wait for their turn.
class standing_threads {
public:
    /// So many threads, the caller's of each call among them; at least 1 and at most threads::most.
    /// Where the system gives fewer, fewer do the work.
    ///   fails   out_of_memory
    static result<standing_threads> make(std::size_t count) noexcept {
        standing_threads made;
        made.shared_ = new (std::nothrow) shared;
        if (made.shared_ == nullptr) return failure{.code = errc::out_of_memory};
        const std::size_t most = count < threads::most ? count : threads::most;
        if (!made.shared_->helpers.reserve(most)) return failure{.code = errc::out_of_memory};
        made.shared_->call = {[](void* of) noexcept { static_cast<shared*>(of)->serve(); },
                              made.shared_};
        detail::os::thread started{};
        while (made.count() < most && detail::os::start_thread(started, made.shared_->call))
            static_cast<void>(made.shared_->helpers.push(started));
        return made;
    }
    /// The other is then without threads, and must not be called.
    standing_threads(standing_threads&& other) noexcept : shared_{other.shared_} {
        other.shared_ = nullptr;
    }
    /// The other is then without threads, and must not be called.
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

    /// How many threads do the work, the caller's among them.
    [[nodiscard]] std::size_t count() const noexcept {
        return shared_ == nullptr ? 0 : shared_->helpers.size() + 1;
    }

    /// Runs the pieces and returns when all are done.
    void operator()(std::size_t count, const indexed_task& task) const noexcept {
        shared& with = *shared_;
        while (with.busy.test_and_set(std::memory_order_acquire))
            with.busy.wait(true, std::memory_order_relaxed);
        with.task = &task;
        with.count = count;
        with.next.store(0, std::memory_order_relaxed);
        with.left.store(static_cast<std::uint32_t>(with.helpers.size()), std::memory_order_relaxed);
        with.round.fetch_add(1, std::memory_order_release);
        with.round.notify_all();
        with.run();
        for (std::uint32_t left; (left = with.left.load(std::memory_order_acquire)) != 0;)
            with.left.wait(left, std::memory_order_acquire);
        with.busy.clear(std::memory_order_release);
        with.busy.notify_one();
    }

private:
    standing_threads() noexcept = default;

    struct shared {
        std::atomic<std::uint32_t> round{0};  // a number more for each call
        std::atomic<std::uint32_t> left{0};   // helpers that are not done with it
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
                round.wait(seen, std::memory_order_acquire);
                if (stops) return;
                run();
                if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_one();
            }
        }
    };
    shared* shared_ = nullptr;
};

namespace detail {

/// A lock for a few instructions, which waits without turning.
class short_lock {
public:
    explicit short_lock(std::atomic_flag& flag) noexcept : flag_{flag} {
        while (flag_.test_and_set(std::memory_order_acquire))
            flag_.wait(true, std::memory_order_relaxed);
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

/// Runs plans, and copies tensors, to one device. Slabs are kept from call to call and calls return
/// while the device still copies, so that it need not stop between them. One call at a time;
/// several loaders, one for each device, may run at once and share sources.
///   memory  staging_options says how much staging memory; up to 1 MiB more for each slab where
///   sources must be read; all of it is
///           allocated by make(), nothing of the device's by any other call
template <copy_device Device>
class staged_loader {
public:
    /// What copies go to.
    using destination = typename Device::destination;
    /// Where an output goes.
    using target = staged_target<destination>;
    /// A tensor and where it goes.
    using tensor = staged_tensor<destination>;
    /// A plan and where its outputs go.
    using planned = staged_plan<destination>;

    /// Allocates the slabs. Where the device refuses some of them but gives two, the loader has
    /// those: slab_count() tells.
    ///   lifetime  the device must outlive the loader and stay where it is
    ///   fails   out_of_range (no bytes or no slabs; expected: most_bytes, actual: what the options
    ///   ask for), misaligned and
    ///           wrong_buffer_size (what the device gave), out_of_memory, and as the device's
    ///           allocate_staging
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
            return failure{.code = errc::out_of_memory};
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
            static_cast<void>(of.slabs.push(std::move(one)));  // there is room
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
    /// The other is then without slabs, and must not be called.
    staged_loader(staged_loader&& other) noexcept : state_{other.state_} { other.state_ = nullptr; }
    /// The other is then without slabs, and must not be called.
    staged_loader& operator=(staged_loader&& other) noexcept {
        staged_loader taken{std::move(other)};
        state* const mine = state_;
        state_ = taken.state_;
        taken.state_ = mine;
        return *this;
    }
    /// Waits for all copies. A slab whose copies could not be waited for is not freed: the device
    /// may still read it.
    ~staged_loader() {
        if (state_ == nullptr) return;
        static_cast<void>(drain());
        for (slab& each : state_->slabs)
            if (!each.is_lost) state_->device.free_staging(each.memory);
        delete state_;
    }

    /// How many slabs there are: as many as were asked for, unless the device refused some.
    [[nodiscard]] std::size_t slab_count() const noexcept { return state_->slabs.size(); }
    /// The staging memory that is held.
    [[nodiscard]] std::uint64_t staging_bytes() const noexcept {
        return std::uint64_t{state_->slabs.size()} * state_->options.slab_bytes;
    }

    /// Makes outputs of a plan on the device; targets[i] is for plan.outputs()[i]. Readers are the
    /// executor's threads, as many as it has but no more than slabs. Returns when the last copy was
    /// handed to the device; finish(), wait() and let_wait() are for those who need the bytes. The
    /// plan may then go.
    ///   fails   wrong_buffer_size (another number of targets than outputs, or of bytes),
    ///   out_of_range (bytes beyond the output),
    ///           parts_differ (the plan's equal_blocks are not), canceled (progress answered
    ///           false), out_of_memory, and as reading the sources and as the device's calls do:
    ///           the first in the order of the plan; a failure names its tensor. No copy is then
    ///           pending, of this call or an earlier one, and what of the outputs was written is
    ///           not told. A loader whose device failed to wait cannot go on: every call gives that
    ///           failure.
    template <executor Executor>
    result<staged_outputs> fuse(const copy_plan& plan, span<const target> targets, Executor&& run,
                                staged_progress_ref progress = {}) noexcept {
        const planned one{&plan, targets};
        return fuse(span<const planned>{&one, 1}, run, progress);
    }

    /// fuse(), for all outputs of some plans, one behind the other: readers go on from plan to plan
    /// without waiting for each other.
    ///   fails   as fuse of one plan; size_overflow
    template <executor Executor>
    result<staged_outputs> fuse(span<const planned> plans, Executor&& run,
                                staged_progress_ref progress = {}) noexcept {
        std::uint64_t count = 0;
        for (const planned& each : plans) {
            const span<const plan_output> outputs = each.plan->outputs();
            if (each.targets.size() != outputs.size())
                return failure{.code = errc::wrong_buffer_size,
                               .scope = text{each.plan->scope()},
                               .detail = "another number of targets than outputs",
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
            return failure{.code = errc::out_of_memory};
        for (const planned& each : plans)
            for (std::size_t i = 0; i < each.targets.size(); ++i) {
                const plan_output& output = each.plan->outputs()[i];
                auto fits = window_of(each.targets[i], output.name, output.size_bytes,
                                      windows[wanted.size()]);
                if (!fits) return std::move(fits).error();
                static_cast<void>(wanted.push({&output, &each.targets[i]}));  // there is room
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

    /// Copies tensors of a set as they are, in the order in which they lie in their sources; small
    /// ones share slabs.
    ///   fails   tensor_not_found, and as fuse
    template <executor Executor>
    result<staged_outputs> load(const tensor_set_ref& set, span<const tensor> tensors,
                                Executor&& run, staged_progress_ref progress = {}) noexcept {
        struct located {
            tensor_location place;
            std::uint32_t number;
        };
        vector<detail::staged_window> windows;
        vector<located> order;
        if (!windows.resize(tensors.size()) || !order.reserve(tensors.size()))
            return failure{.code = errc::out_of_memory};
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
            if (!order.push({place, i})) return failure{.code = errc::out_of_memory};
        }
        const auto before = [](const located& a, const located& b) noexcept {
            return a.place.source != b.place.source ? a.place.source < b.place.source
                                                    : a.place.offset < b.place.offset;
        };
        if (!detail::sort(order.view(), before)) return failure{.code = errc::out_of_memory};
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

    /// Makes a stream of the caller's wait until all bytes of output i of a call are on the device.
    /// Nobody waits here.
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
        vector<std::byte> scratch;                        // for reading what is put together
        vector<staged_copy<destination>> copies;          // for devices that take them in one call
        text tensor{};                                    // the first that it holds
        std::uint64_t first_output = 0, last_output = 0;  // the loader's numbers of what it holds
        bool is_in_flight = false;                        // the ticket must be waited for
        bool is_lost = false;  // waiting failed: never filled or freed again

        [[nodiscard]] bool holds(std::uint64_t output) const noexcept {
            return is_in_flight && first_output <= output && output <= last_output;
        }
    };
    struct state {
        state(Device& of, const staging_options& chosen) noexcept : device{of}, options{chosen} {}

        Device& device;
        staging_options options;
        vector<slab> slabs;
        // Slabs that the device copies from, the oldest at the front: a ring of as many numbers as
        // there are slabs.
        vector<std::uint32_t> ring;
        std::size_t front = 0, in_flight = 0;
        // Slabs that nobody fills and whose copies are done, the last one on top: of it the most is
        // still in the cache.
        vector<std::uint32_t> idle;
        // How many slabs are in `ring` and `idle`; more, so that nobody waits, where `is_broken`.
        std::atomic<std::uint32_t> available{0};
        std::atomic<bool> is_broken{false};
        std::atomic_flag lock;
        failure why{};
        std::uint64_t next_output = 1;
    };

    /// One call, as all its readers see it.
    struct call {
        const detail::staged_job& job;
        std::uint64_t first_output;
        staged_progress_ref progress;
        std::atomic<std::size_t> next{0};
        std::atomic<std::size_t> first_failed{detail::no_position};
        std::atomic<bool> is_canceled{false};
        std::atomic_flag lock;
        failure why{};
        staged_progress at{};
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
                                   staged_progress_ref progress) noexcept {
        if (state_->is_broken.load(std::memory_order_relaxed)) return state_->why;
        const staged_outputs numbers{state_->next_output, windows.size()};
        state_->next_output += windows.size();
        call one{job, numbers.first,        progress, {}, {detail::no_position}, {}, {},
                 {},  {0, job.size_bytes()}};
        const std::size_t count = job.fill_count();
        const auto run_next = [&](std::size_t) noexcept {
            const std::size_t i = one.next.fetch_add(1, std::memory_order_relaxed);
            // A fill behind one that failed is not needed; those before it are, for they may fail
            // too.
            if (i >= count || one.is_canceled.load(std::memory_order_relaxed) ||
                one.first_failed.load(std::memory_order_relaxed) < i)
                return;
            auto done = run_fill(one, i, windows, name_of, target_of);
            if (done) return;
            const detail::short_lock locked{one.lock};
            if (i >= one.first_failed.load(std::memory_order_relaxed)) return;
            one.first_failed.store(i, std::memory_order_relaxed);
            one.why = std::move(done).error();
        };
        if (count > 1) executor(count, indexed_task{run_next});
        while (one.next.load(std::memory_order_relaxed) < count)
            run_next(0);  // what the executor left; nothing in general
        const bool failed = one.first_failed.load(std::memory_order_relaxed) != detail::no_position;
        if (!failed && !one.is_canceled.load(std::memory_order_relaxed)) return numbers;
        auto drained = drain();
        if (failed) return std::move(one.why);
        if (!drained) return std::move(drained).error();
        return failure{
            .code = errc::canceled, .expected = one.at.total_bytes, .actual = one.at.done_bytes};
    }

    /// Fills one slab and hands it to the device.
    template <class NameOf, class TargetOf>
    result<void> run_fill(call& of, std::size_t number, span<const detail::staged_window> windows,
                          const NameOf& name_of, const TargetOf& target_of) noexcept {
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
            done = hand_over(into, lane, pieces, windows, target_of, output);
        }
        if (!done && done.error().tensor.empty()) done.error().tensor = text{name_of(output)};
        if (!into.is_lost) give_slab(lane);
        if (!done) return done;
        const detail::short_lock locked{of.lock};
        of.at.done_bytes += size_bytes;
        if (!of.is_canceled.load(std::memory_order_relaxed) && !of.progress(of.at))
            of.is_canceled.store(true, std::memory_order_relaxed);
        return {};
    }

    /// Enqueues the copies of a slab and marks their end.
    template <class TargetOf>
    result<void> hand_over(slab& from, std::size_t lane, span<const detail::staged_piece> pieces,
                           span<const detail::staged_window> windows, const TargetOf& target_of,
                           std::uint32_t& output) noexcept {
        Device& device = state_->device;
        const auto copy_of = [&](const detail::staged_piece& piece) noexcept {
            const target& to = target_of(piece.output);
            return staged_copy<destination>{to.to,
                                            to.offset + (piece.to - windows[piece.output].begin),
                                            {from.memory.data + piece.at, piece.size_bytes}};
        };
        result<void> copied;
        constexpr bool takes_batches = requires {
            { device.copy_batch(from.copies.view(), lane) } noexcept -> std::same_as<result<void>>;
        };
        if constexpr (takes_batches) {
            from.copies.clear();
            for (const detail::staged_piece& each : pieces)
                if (!from.copies.push(copy_of(each))) return failure{.code = errc::out_of_memory};
            copied =
                device.copy_batch(span<const staged_copy<destination>>{from.copies.view()}, lane);
        } else {
            for (std::size_t i = 0; i < pieces.size() && copied; ++i) {
                output = pieces[i].output;
                const staged_copy<destination> one = copy_of(pieces[i]);
                copied = device.copy(one.to, one.offset, one.from, lane);
            }
        }
        // behind a copy that failed there may be some that did not
        auto marked = device.mark(from.ticket, lane);
        if (marked) {
            from.is_in_flight = true;
        } else {
            lose(from, marked.error());
        }
        if (!copied) return copied;
        return marked;
    }

    /// Takes a slab that may be filled: the last one whose copies are done, else the oldest one
    /// that the device still copies from, which is waited for. Stores its number.
    result<void> take_slab(std::size_t& lane) noexcept {
        state& of = *state_;
        for (;;) {
            if (of.is_broken.load(std::memory_order_acquire)) return why_broken();
            std::uint32_t count = of.available.load(std::memory_order_acquire);
            if (count == 0) {
                of.available.wait(0, std::memory_order_acquire);
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
                if (!done || !*done) break;  // a failure is told by whoever waits
                oldest.is_in_flight = false;
                static_cast<void>(of.idle.push(next_in_flight()));  // there is room
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
    /// Takes the oldest out of the ring.
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
            if (of.is_broken.load(std::memory_order_relaxed)) return;  // nobody takes one any more
            if (of.slabs[lane].is_in_flight) {
                const std::size_t back = of.front + of.in_flight++;
                of.ring[back < of.ring.size() ? back : back - of.ring.size()] =
                    static_cast<std::uint32_t>(lane);
            } else {
                static_cast<void>(of.idle.push(static_cast<std::uint32_t>(lane)));  // there is room
            }
        }
        of.available.fetch_add(1, std::memory_order_acq_rel);
        of.available.notify_one();
    }

    /// Waits for what a slab holds.
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
        of.available.fetch_add(1, std::memory_order_acq_rel);  // whoever waits is to see it
        of.available.notify_all();
    }
    failure why_broken() noexcept {
        const detail::short_lock locked{state_->lock};
        return state_->why;
    }

    /// Waits for all slabs; nobody fills one now.
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
