#include <safefuse/run/parallel.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory_resource>
#include <mutex>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <safefuse/tensor/tensor_set.hpp>

#include "../../support/laws.hpp"
#include "../../support/support.hpp"

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;
using laws::u64;
using sf::errc;

namespace {

/// A set that many threads may use at once. Reads of certain bytes fail, each with its own number.
struct shared_set {
    const laws::packed_set& whole;
    bool resident = true;
    std::vector<std::pair<u64, int>> bad{};
    u64 held = ~u64{0};
    bool changed = false;

    std::size_t size() const noexcept { return whole.size(); }
    sf::tensor_spec spec(std::size_t i) const noexcept { return whole.spec(i); }
    sf::tensor_location place(std::size_t i) const noexcept { return whole.place(i); }
    std::string_view source_name(std::uint32_t) const noexcept { return "shared.safetensors"; }
    std::span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        const auto all = whole.held_bytes(source);
        return resident ? all.first(static_cast<std::size_t>(std::min<u64>(held, all.size())))
                        : std::span<const std::byte>{};
    }
    sf::result<void> read(std::uint32_t source, u64 offset,
                          std::span<std::byte> out) const noexcept {
        const std::pair<u64, int>* first = nullptr;
        for (const auto& each : bad)
            if (each.first >= offset && each.first < offset + out.size() &&
                (first == nullptr || each.first < first->first))
                first = &each;
        if (first != nullptr)
            return sf::failure{.code = errc::io_error,
                               .file = "shared.safetensors",
                               .offset = first->first,
                               .os_error = first->second};
        return sf::memory_source{whole.held_bytes(source)}.read(offset, out);
    }
    sf::result<void> check(std::uint32_t) const noexcept {
        if (changed) return sf::failure{.code = errc::file_changed, .file = "shared.safetensors"};
        return {};
    }
};

/// A caller's pool of threads that live longer than a call.
class pool {
public:
    explicit pool(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) workers_.emplace_back([this] { work(); });
    }
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;
    ~pool() {
        {
            const std::lock_guard lock{mutex_};
            stops_ = true;
        }
        wakes_.notify_all();
        for (std::thread& each : workers_) each.join();
    }
    void run(std::size_t count, std::function<void(std::size_t)> task) {
        std::unique_lock lock{mutex_};
        task_ = std::move(task);
        next_ = 0;
        left_ = count_ = count;
        wakes_.notify_all();
        done_.wait(lock, [this] { return left_ == 0; });
    }

private:
    void work() {
        std::unique_lock lock{mutex_};
        for (;;) {
            wakes_.wait(lock, [this] { return stops_ || next_ < count_; });
            if (stops_) return;
            const std::size_t i = next_++;
            lock.unlock();
            task_(i);
            lock.lock();
            if (--left_ == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wakes_, done_;
    std::function<void(std::size_t)> task_;
    std::size_t next_ = 0, count_ = 0, left_ = 0;
    bool stops_ = false;
    std::vector<std::thread> workers_;
};

/// The result of running a plan: the bytes or the sentence.
struct outcome {
    std::vector<std::vector<std::byte>> made;
    std::string failure;
    bool operator==(const outcome&) const = default;
};

std::string sentence(const sf::result<void>& done) {
    return done ? std::string{} : std::string{done.error().message().view()};
}

outcome run(const sf::copy_plan& plan,
            const std::function<sf::result<void>(const std::vector<std::span<std::byte>>&)>& fuse) {
    outcome out;
    std::vector<std::span<std::byte>> spans;
    for (const sf::plan_output& each : plan.outputs())
        out.made.emplace_back(static_cast<std::size_t>(each.size_bytes), std::byte{0xEE});
    for (auto& each : out.made) spans.emplace_back(each);
    out.failure = sentence(fuse(spans));
    if (!out.failure.empty()) out.made.clear();  // unspecified
    return out;
}
outcome run_serial(const sf::copy_plan& plan) {
    return run(plan, [&](const auto& spans) { return sf::fuse(plan, spans); });
}
/// Runs in chunks of a few bytes, so that there are many.
template <class Executor>
outcome run_chunked(const sf::copy_plan& plan, Executor&& executor, u64 chunk_bytes) {
    return run(plan, [&](const auto& spans) {
        const std::vector<sf::span<std::byte>> buffers{spans.begin(), spans.end()};
        return sf::detail::chunked_fuse{plan, sf::detail::output_memory{buffers}, chunk_bytes}.run(
            sf::detail::executor_ref{executor});
    });
}

template <class Set>
sf::copy_plan plan_of(const Set& set, laws::kind from, laws::kind to) {
    auto plan = sf::plan(set, "moe", laws::description(from), laws::description(to));
    REQUIRE(plan);
    return std::move(*plan);
}

}  // namespace

TEST_CASE("threads: every piece runs once, with any number of threads and pieces") {
    for (const std::size_t count : {0u, 1u, 2u, 3u, 8u, 1000u}) {
        const sf::threads run{count};
        CHECK(run.count() == std::clamp<std::size_t>(count, 1, sf::threads::most));
        for (const std::size_t pieces : {0u, 1u, 2u, 7u, 500u}) {
            std::vector<std::atomic<int>> times(pieces);
            sf::parallel_for(pieces, [&](std::size_t i) noexcept { ++times[i]; }, run);
            CHECK(std::all_of(times.begin(), times.end(),
                              [](const auto& each) { return each == 1; }));
        }
    }
    CHECK(sf::threads{}.count() >= 1);
    std::atomic<std::size_t> sum{0};
    sf::parallel_for(100, [&](std::size_t i) noexcept { sum += i; });
    CHECK(sum == 4950);
}

namespace {

std::atomic<int> called_in_line{0};
void in_line(std::size_t count, const sf::indexed_task& task) noexcept {
    ++called_in_line;
    for (std::size_t i = 0; i < count; ++i) task(i);
}

}  // namespace

TEST_CASE("fuse on threads: a plain function can be an executor") {
    const laws::experts x{.end_expert = 3, .i_end = 64, .h = 48};
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, x, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    CHECK(run(plan, [&](const auto& spans) { return sf::fuse(plan, spans, in_line); }) ==
          run_serial(plan));
    CHECK(run_chunked(plan, in_line, 500) == run_serial(plan));
    CHECK(called_in_line == 1);  // one chunk needs no executor
}

TEST_CASE("fuse on threads: for every pair of layouts the bytes are those of one thread") {
    const laws::experts shapes[] = {
        {.end_expert = 3,
         .i_end = 64,
         .h = 5,
         .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}},
        {.end_expert = 2, .i_end = 128, .h = 33, .type = sf::dtype::f32},
    };
    pool workers{3};
    const auto pooled = [&](std::size_t count, const sf::indexed_task& task) {
        workers.run(count, task);
    };
    for (const laws::experts& x : shapes)
        for (const laws::kind from : laws::all_kinds) {
            const laws::packed_set held = laws::make_set(from, x, "moe");
            for (const bool resident : {true, false}) {
                const shared_set set{held, resident};
                for (const laws::kind to : laws::all_kinds) {
                    INFO(laws::spelled(from), " to ", laws::spelled(to), " H ", x.h,
                         resident ? " resident" : " read");
                    const sf::copy_plan plan = plan_of(set, from, to);
                    const outcome expected = run_serial(plan);
                    REQUIRE(expected.failure == "");
                    for (const std::size_t count : {1u, 2u, 3u, 8u})
                        for (const u64 chunk_bytes : {1u, 100u, 4096u})
                            CHECK(run_chunked(plan, sf::threads{count}, chunk_bytes) == expected);
                    CHECK(run_chunked(plan, pooled, 256) == expected);
                    CHECK(run(plan, [&](const auto& spans) {
                              return sf::fuse(plan, spans, pooled);
                          }) == expected);
                }
            }
        }
}

TEST_CASE("fuse on threads: large copies are split, and streamed past the cache") {
    laws::packed_set held;
    const u64 wide[] = {1536, 1024}, tall[] = {1024, 1536};
    for (u64 e = 0; e < 3; ++e) {
        const std::string scope = "moe." + std::to_string(e);
        held.add(scope + ".gate_proj.weight", sf::dtype::bf16, {wide[0], wide[1]});
        held.add(scope + ".up_proj.weight", sf::dtype::bf16, {wide[0], wide[1]});
        held.add(scope + ".down_proj.weight", sf::dtype::bf16, {tall[0], tall[1]});
    }
    for (const bool resident : {true, false}) {
        const shared_set set{held, resident};
        for (const laws::kind to :
             {laws::kind::gate_up, laws::kind::rows_1, laws::kind::transposed}) {
            INFO(laws::spelled(to));
            const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, to);
            CHECK(plan.size_bytes() >= sf::detail::streamed_bytes);
            const outcome expected = run_serial(plan);
            CHECK(expected.made == laws::execute(plan, held).outputs);
            for (const std::size_t count : {1u, 2u, 3u, 8u}) {
                CHECK(run(plan, [&](const auto& spans) {
                          return sf::fuse(plan, spans, sf::threads{count});
                      }) == expected);
                std::vector<std::byte> one(expected.made[1].size());
                CHECK(sf::fuse(plan, plan.outputs()[1].local_name, one, sf::threads{count}));
                CHECK(one == expected.made[1]);
            }
        }
    }
}

TEST_CASE(
    "fuse on threads: the failure is the first in the order of the plan, with any number of "
    "threads") {
    const laws::experts x{.end_expert = 3, .i_end = 64, .h = 48};
    pool workers{3};
    const auto pooled = [&](std::size_t count, const sf::indexed_task& task) {
        workers.run(count, task);
    };
    const auto backwards = [](std::size_t count, const sf::indexed_task& task) {
        for (std::size_t i = count; i-- > 0;) task(i);
    };
    const auto check = [&](const sf::copy_plan& plan) {
        const std::string expected = run_serial(plan).failure;
        REQUIRE(expected != "");
        for (const std::size_t count : {1u, 2u, 3u, 8u})
            for (const u64 chunk_bytes : {64u, 1000u, 100'000u})
                CHECK(run_chunked(plan, sf::threads{count}, chunk_bytes).failure == expected);
        CHECK(run_chunked(plan, pooled, 100).failure == expected);
        CHECK(run_chunked(plan, backwards, 64).failure == expected);  // later failures come first
    };
    for (const laws::kind from : {laws::kind::per_expert, laws::kind::gate_up, laws::kind::rows_1,
                                  laws::kind::columns_in_turn}) {
        const laws::packed_set held = laws::make_set(from, x, "moe");
        const u64 end = held.held_bytes(0).size();
        for (const laws::kind to : {laws::kind::per_expert, laws::kind::gate_up, laws::kind::rows_1,
                                    laws::kind::transposed}) {
            INFO(laws::spelled(from), " to ", laws::spelled(to));
            // reads that fail at several places, in every order
            for (u64 step = 1; step < 12; ++step) {
                shared_set set{held, false};
                for (u64 i = 1; i <= 4; ++i)
                    set.bad.push_back({(end * i * step / 7 + 11 * i) % end, static_cast<int>(i)});
                check(plan_of(set, from, to));
            }
            // sources in memory that are too short or changed
            for (u64 held_bytes = 1; held_bytes < end; held_bytes += end / 7) {
                shared_set set{held, true, {}, held_bytes};
                const sf::copy_plan plan = plan_of(set, from, to);
                check(plan);
                set.changed = true;
                check(plan);
            }
            shared_set set{held};
            const sf::copy_plan plan = plan_of(set, from, to);
            set.changed = true;
            check(plan);
        }
    }
}

TEST_CASE(
    "fuse on threads: an executor that skips pieces, or runs them twice or backwards, does no "
    "harm") {
    const laws::experts x{.end_expert = 3, .i_end = 64, .h = 48};
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, x, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    const outcome expected = run_serial(plan);
    std::size_t called = 0;
    CHECK(run_chunked(plan, [](std::size_t, const sf::indexed_task&) {}, 500) == expected);
    CHECK(run_chunked(
              plan,
              [&](std::size_t count, const sf::indexed_task& task) {
                  for (std::size_t i = 0; i < count; i += 2) task(i), ++called;
              },
              500) == expected);
    CHECK(called > 3);
    CHECK(run_chunked(
              plan,
              [](std::size_t count, const sf::indexed_task& task) {
                  for (std::size_t i = count; i-- > 0;) task(i), task(i);
              },
              500) == expected);
}

TEST_CASE(
    "fuse on threads: wrong buffers are refused before anything is written, and empty ones "
    "skip outputs") {
    const laws::experts x{.end_expert = 2, .i_end = 8, .h = 4};
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, x, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    std::vector<std::byte> first(static_cast<std::size_t>(plan.outputs()[0].size_bytes),
                                 std::byte{0xEE}),
        untouched = first;
    std::vector<std::span<std::byte>> spans{first};
    CHECK(sf::fuse(plan, spans, sf::threads{2}).error().code == errc::wrong_buffer_size);
    CHECK(first == untouched);
    CHECK(sf::fuse(plan, "nobody", first, sf::threads{2}).error().code == errc::output_not_found);
    CHECK(sf::fuse(plan, plan.outputs()[0].local_name, std::span{first}.first(3), sf::threads{2})
              .error()
              .code == errc::wrong_buffer_size);
    spans.emplace_back();
    CHECK(sf::fuse(plan, spans, sf::threads{2}));
    CHECK(first == run_serial(plan).made[0]);
}

TEST_CASE(
    "fuse on threads: checkpoints on disk, mapped and read, and memory of the caller's allocator") {
    const support::temporary_directory directory;
    std::vector<support::tensor> tensors;
    for (int e = 0; e < 4; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            tensors.push_back(support::bf16(
                "model.layers.0.mlp.experts." + std::to_string(e) + "." + part + ".weight",
                part[0] == 'd' ? std::vector<u64>{512, 256} : std::vector<u64>{256, 512}));
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    support::write_tensor_file(directory / "model.safetensors", tensors);
    const auto mapped = sf::checkpoint::open(directory.string());
    const auto read = sf::basic_checkpoint<sf::positional_file>::open(directory.string());
    REQUIRE(mapped);
    REQUIRE(read);
    const auto plan = sf::plan<sf::families::qwen2_moe>(*mapped, "model.layers.0.mlp.experts");
    const auto read_plan = sf::plan<sf::families::qwen2_moe>(*read, "model.layers.0.mlp.experts");
    REQUIRE(plan);
    REQUIRE(read_plan);
    const outcome expected = run_serial(*plan);
    for (const std::size_t count : {1u, 2u, 3u, 8u}) {
        CHECK(run_chunked(*plan, sf::threads{count}, 10'000) == expected);
        CHECK(run_chunked(*read_plan, sf::threads{count}, 10'000) == expected);
    }

    std::pmr::monotonic_buffer_resource arena;
    const std::size_t size_bytes = expected.made[0].size();
    std::pmr::vector<std::byte> pmr(size_bytes, &arena);
    CHECK(sf::fuse(*plan, plan->outputs()[0].local_name, pmr, sf::threads{2}));
    CHECK(std::equal(pmr.begin(), pmr.end(), expected.made[0].begin()));
    CHECK(sf::fuse(*read_plan, plan->outputs()[0].local_name, pmr));
    CHECK(std::equal(pmr.begin(), pmr.end(), expected.made[0].begin()));

    constexpr std::align_val_t alignment{4096};
    auto* const aligned = static_cast<std::byte*>(::operator new(size_bytes, alignment));
    CHECK(sf::fuse(*plan, plan->outputs()[0].local_name, std::span{aligned, size_bytes},
                   sf::threads{2}));
    CHECK(std::equal(aligned, aligned + size_bytes, expected.made[0].begin()));
    ::operator delete(aligned, alignment);
}
