// A device made of ordinary memory that is as late as a device may be: it copies nothing until
// something waits for the copy, and it poisons freed slabs. A caller that refills or frees a slab
// too early gets wrong bytes. It can be told to refuse calls and to fail.
#ifndef SAFEFUSE_TESTS_MEMORY_DEVICE_HPP
#define SAFEFUSE_TESTS_MEMORY_DEVICE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include <safefuse/run/staged.hpp>

namespace support {

/// The faults of a memory device; calls are counted from 0.
struct device_faults {
    static constexpr std::size_t never = ~std::size_t{0};
    std::size_t refuse_staging_from = never;  ///< allocate_staging fails from this call on
    std::size_t fail_copy = never;            ///< this copy fails
    std::size_t fail_copies_from = never;     ///< this copy and all after it fail
    std::size_t fail_mark = never;
    /// the ticket of this wait is never done: this wait and all others of the lane fail
    std::size_t fail_wait = never;
    /// not a fault: every n-th is_done completes the copies before its ticket
    std::size_t arrive_when_asked = never;
    bool misaligned_staging = false;
    bool short_staging = false;
};

/// A copy_device. Destinations are indices of its buffers.
class memory_device {
public:
    struct destination {
        std::uint32_t buffer = 0;
    };
    struct ticket {
        std::size_t lane = 0;
        std::uint64_t mark = 0;
        bool is_set = false;
    };

    explicit memory_device(const device_faults& faults = {}) : faults_{faults} {}
    memory_device(const memory_device&) = delete;
    memory_device& operator=(const memory_device&) = delete;
    ~memory_device() {
        for (const auto& [data, size] : staging_) ::operator delete(data, std::align_val_t{4096});
    }

    /// Makes a buffer of the device, filled with 0xEE.
    destination allocate(std::size_t size_bytes) {
        const std::lock_guard lock{mutex_};
        buffers_.emplace_back(size_bytes, std::byte{0xEE});
        return {static_cast<std::uint32_t>(buffers_.size() - 1)};
    }
    /// The current content of a buffer.
    const std::vector<std::byte>& contents(destination of) const { return buffers_[of.buffer]; }

    safefuse::result<safefuse::staging_memory> allocate_staging(std::size_t size_bytes) noexcept {
        const std::lock_guard lock{mutex_};
        if (allocations++ >= faults_.refuse_staging_from)
            return safefuse::failure{.code = safefuse::errc::out_of_memory,
                                     .detail = "page-locked memory"};
        auto* const data =
            static_cast<std::byte*>(::operator new(size_bytes + 4096, std::align_val_t{4096}));
        staging_[data] = size_bytes;
        held_staging_bytes += size_bytes;
        return safefuse::staging_memory{data + (faults_.misaligned_staging ? 64 : 0),
                                        size_bytes - (faults_.short_staging ? 1 : 0)};
    }
    void free_staging(safefuse::staging_memory memory) noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = staging_.find(memory.data - (faults_.misaligned_staging ? 64 : 0));
        if (found == staging_.end()) {
            ++misuses;
            return;
        }
        for (const auto& [lane, queue] : queues_)
            for (const pending& each : queue)
                if (each.from >= found->first && each.from < found->first + found->second)
                    ++misuses;
        std::memset(found->first, 0xDD, found->second);
        held_staging_bytes -= found->second;
        ::operator delete(found->first, std::align_val_t{4096});
        staging_.erase(found);
    }
    safefuse::result<void> copy(const destination& to, std::uint64_t offset,
                                safefuse::span<const std::byte> from, std::size_t lane) noexcept {
        const std::lock_guard lock{mutex_};
        const std::size_t number = copies++;
        if (number == faults_.fail_copy || number >= faults_.fail_copies_from)
            return safefuse::failure{.code = safefuse::errc::device_failed, .detail = "copy"};
        const bool fits = to.buffer < buffers_.size() && offset <= buffers_[to.buffer].size() &&
                          buffers_[to.buffer].size() - offset >= from.size();
        if (!fits || from.empty()) ++misuses;
        if (fits) queues_[lane].push_back({to.buffer, offset, from.data(), from.size()});
        copied_bytes += from.size();
        return {};
    }
    safefuse::result<void> mark(ticket& set, std::size_t lane) noexcept {
        const std::lock_guard lock{mutex_};
        if (marks++ == faults_.fail_mark)
            return safefuse::failure{.code = safefuse::errc::device_failed, .detail = "mark"};
        set = {lane, done_[lane] + queues_[lane].size(), true};
        return {};
    }
    safefuse::result<bool> is_done(ticket& set) noexcept {
        const std::lock_guard lock{mutex_};
        if (faults_.arrive_when_asked != device_faults::never &&
            ++asks % faults_.arrive_when_asked == 0)
            arrive(set);
        return done_[set.lane] >= set.mark;
    }
    safefuse::result<void> wait(ticket& set) noexcept {
        const std::lock_guard lock{mutex_};
        if (!set.is_set) ++misuses;
        if (waits++ >= faults_.fail_wait)
            return safefuse::failure{.code = safefuse::errc::device_failed,
                                     .detail = "the ticket is not done"};
        arrive(set);
        return {};
    }
    /// A stream is a list of tickets that it waits for.
    safefuse::result<void> let_wait(std::vector<ticket>* const& stream, ticket& set) noexcept {
        stream->push_back(set);
        return {};
    }
    /// Completes a stream's tickets.
    void run(const std::vector<ticket>& stream) {
        const std::lock_guard lock{mutex_};
        for (const ticket& each : stream) arrive(each);
    }

    /// The number of copies that nothing has waited for.
    std::size_t pending_copies() const {
        std::size_t count = 0;
        for (const auto& [lane, queue] : queues_) count += queue.size();
        return count;
    }

    std::size_t allocations = 0, copies = 0, marks = 0, waits = 0, asks = 0;
    std::uint64_t copied_bytes = 0, held_staging_bytes = 0;
    /// copies out of bounds, staging freed twice or while it is read, tickets that were never set
    std::size_t misuses = 0;

private:
    struct pending {
        std::uint32_t buffer;
        std::uint64_t offset;
        const std::byte* from;
        std::size_t size_bytes;
    };

    void arrive(const ticket& upto) {
        std::vector<pending>& queue = queues_[upto.lane];
        std::uint64_t& done = done_[upto.lane];
        std::size_t count = 0;
        for (; done < upto.mark; ++done, ++count)
            std::memcpy(buffers_[queue[count].buffer].data() + queue[count].offset,
                        queue[count].from, queue[count].size_bytes);
        queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(count));
    }

    device_faults faults_;
    std::mutex mutex_;
    std::vector<std::vector<std::byte>> buffers_;
    std::map<std::byte*, std::size_t> staging_;
    std::map<std::size_t, std::vector<pending>> queues_;  // by lane
    std::map<std::size_t, std::uint64_t> done_;           // by lane: number of copies made
};

/// A memory device that takes all copies of a slab at once.
class batching_device : public memory_device {
public:
    using memory_device::memory_device;
    safefuse::result<void> copy_batch(safefuse::span<const safefuse::staged_copy<destination>> all,
                                      std::size_t lane) noexcept {
        {
            const std::lock_guard lock{batch_mutex_};
            ++batches;
        }
        for (const auto& each : all)
            if (auto done = copy(each.to, each.offset, each.from, lane); !done) return done;
        return {};
    }
    std::size_t batches = 0;

private:
    std::mutex batch_mutex_;
};

static_assert(safefuse::copy_device<memory_device>);
static_assert(safefuse::copy_device<batching_device>);

}  // namespace support

#endif
