// Progress and cancellation of everything that runs a plan: fuse, fuse_range, threads.
#include <safefuse/core/progress.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/run/parallel.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;

namespace {

/// Experts with `columns` columns of gate and up: 2 MiB each for 4096 of them.
packed_set big_experts(u64 columns) {
    packed_set set;
    for (u64 e = 0; e < 3; ++e) {
        const std::string name = "moe." + std::to_string(e);
        set.add(name + ".gate_proj.weight", sf::dtype::bf16, {256, columns});
        set.add(name + ".up_proj.weight", sf::dtype::bf16, {256, columns});
        set.add(name + ".down_proj.weight", sf::dtype::bf16, {columns, 256});
    }
    return set;
}
/// One fused tensor of 24 MiB, which is one run.
packed_set fused_experts() {
    packed_set set;
    set.add("moe.gate_up_proj", sf::dtype::bf16, {3, 1024, 4096});
    set.add("moe.down_proj", sf::dtype::bf16, {3, 4096, 512});
    return set;
}

using runner = std::function<sf::result<void>(
    const sf::copy_plan&, std::vector<std::vector<std::byte>>&, sf::progress_ref)>;
struct way {
    const char* name;
    runner run;
};
const std::vector<way>& ways() {
    static const std::vector<way> all{
        {"all at once", [](const sf::copy_plan& plan, auto& out,
                           sf::progress_ref told) { return sf::fuse(plan, out, told); }},
        {"one by one",
         [](const sf::copy_plan& plan, auto& out, sf::progress_ref told) {
             return sf::fuse(
                 plan,
                 [&, next = 0u](const sf::plan_output&) mutable -> std::span<std::byte> {
                     return out[next++];
                 },
                 told);
         }},
        {"threads",
         [](const sf::copy_plan& plan, auto& out, sf::progress_ref told) {
             return sf::fuse(plan, out, sf::threads{3}, told);
         }},
        {"one by one on threads",
         [](const sf::copy_plan& plan, auto& out, sf::progress_ref told) {
             return sf::fuse(
                 plan,
                 [&, next = 0u](const sf::plan_output&) mutable -> std::span<std::byte> {
                     return out[next++];
                 },
                 sf::threads{3}, told);
         }},
    };
    return all;
}

std::vector<std::vector<std::byte>> buffers_for(const sf::copy_plan& plan) {
    std::vector<std::vector<std::byte>> out;
    for (const sf::plan_output& each : plan.outputs())
        out.emplace_back(static_cast<std::size_t>(each.size_bytes), std::byte{0xEE});
    return out;
}

/// Every kind of source and of copies: short runs, transposed ones, one large run.
void for_each_plan(const std::function<void(const sf::copy_plan&)>& f) {
    for (const bool resident : {true, false}) {
        CAPTURE(resident);
        packed_set apart = big_experts(4096), fused = fused_experts();
        apart.resident = fused.resident = resident;
        using sf::layouts::per_expert, sf::layouts::gate_up_fused;
        auto runs = sf::plan<per_expert, gate_up_fused>(apart, "moe");
        auto turned = sf::plan<per_expert, laws::layouts::rows_in_turn<1>>(apart, "moe");
        auto whole = sf::plan<gate_up_fused, gate_up_fused>(fused, "moe");
        REQUIRE(runs);
        REQUIRE(turned);
        REQUIRE(whole);
        f(*runs);
        f(*turned);
        f(*whole);
    }
}

}  // namespace

TEST_CASE("progress: a run reports about every MiB, up to all bytes, and makes the same bytes") {
    for_each_plan([](const sf::copy_plan& plan) {
        std::vector<std::vector<std::byte>> wanted = buffers_for(plan);
        REQUIRE(sf::fuse(plan, wanted));
        for (const way& each : ways()) {
            CAPTURE(each.name);
            auto made = buffers_for(plan);
            u64 calls = 0, done = 0;
            bool rises = true, totals = true, named = true;
            auto watch = [&](const sf::run_progress& at) {
                ++calls;
                rises = rises && at.done_bytes > done;
                totals = totals && at.total_bytes == plan.size_bytes();
                named = named && at.tensor.starts_with("moe.");
                done = at.done_bytes;
                return true;
            };
            REQUIRE(each.run(plan, made, watch));
            CHECK(made == wanted);
            CHECK(calls >= 3);
            CHECK(rises);
            CHECK(totals);
            CHECK(named);
            CHECK(done == plan.size_bytes());
        }
    });
}

TEST_CASE("progress: a run whose progress returns false ends with canceled and copies no more") {
    for_each_plan([](const sf::copy_plan& plan) {
        for (const way& each : ways()) {
            CAPTURE(each.name);
            auto made = buffers_for(plan);
            u64 calls = 0;
            const auto done = each.run(plan, made, [&](const sf::run_progress&) {
                ++calls;
                return false;
            });
            REQUIRE(!done);
            CHECK(done.error().code == errc::canceled);
            CHECK(done.error().scope == "moe");
            CHECK(calls == 1);
            CHECK(made.back().back() == std::byte{0xEE});
        }
    });
}

TEST_CASE("progress: fuse_range reports its window, and can be canceled") {
    for_each_plan([](const sf::copy_plan& plan) {
        std::vector<std::byte> wanted(std::size_t{9} << 20), out(std::size_t{9} << 20);
        REQUIRE(sf::fuse_range(plan, 0, 1 << 20, wanted));
        u64 done = 0, calls = 0;
        auto watch = [&](const sf::run_progress& at) {
            ++calls;
            CHECK(at.total_bytes == out.size());
            done = at.done_bytes;
            return true;
        };
        REQUIRE(sf::fuse_range(plan, 0, 1 << 20, out, watch));
        CHECK(done == out.size());
        CHECK(calls >= 2);
        CHECK(out == wanted);
        const auto stopped =
            sf::fuse_range(plan, 0, 1 << 20, out, [](const sf::run_progress&) { return false; });
        REQUIRE(!stopped);
        CHECK(stopped.error().code == errc::canceled);
        CHECK(stopped.error().message().view().starts_with(
            "experts \"moe\": canceled, expected 9,437,184, found "));
    });
}

TEST_CASE("progress: the failure of a source is returned, not the cancel that comes after it") {
    packed_set set = big_experts(64);
    set.resident = false;
    auto plan = sf::plan<sf::layouts::per_expert, sf::layouts::gate_up_fused>(set, "moe");
    REQUIRE(plan);
    auto made = buffers_for(*plan);
    made[0].pop_back();
    for (const way& each : ways()) {
        CAPTURE(each.name);
        u64 calls = 0;
        const auto done =
            each.run(*plan, made, [&](const sf::run_progress&) { return ++calls == 0; });
        REQUIRE(!done);
        CHECK(done.error().code == errc::wrong_buffer_size);
        CHECK(done.error().tensor == "moe.gate_up_proj");
        CHECK(calls == 0);
    }
}

TEST_CASE("progress: a function, a const callable and a temporary lambda are called") {
    static std::atomic<int> calls;
    calls = 0;
    struct counts {
        static bool call(const sf::run_progress&) { return ++calls > 0; }
    };
    const auto constant = [](const sf::run_progress&) { return ++calls > 0; };
    const sf::progress_ref nobody;
    CHECK(!nobody);
    CHECK(nobody({}));
    for (const sf::progress_ref each :
         {sf::progress_ref{counts::call}, sf::progress_ref{constant}}) {
        CHECK(static_cast<bool>(each));
        CHECK(each({}));
    }
    CHECK(calls == 2);
}
