// How do I fuse on several threads, the library's or my own?
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include <safefuse/run/parallel.hpp>
#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

// An executor is anything that can be called with a count and a task, and that has run task(0) to
// task(count - 1) when it returns. Here: a thread for each. A pool of your own is called likewise.
void my_executor(std::size_t count, const sf::indexed_task& task) {
    std::vector<std::thread> workers;
    for (std::size_t i = 0; i < count; ++i) workers.emplace_back([&task, i] { task(i); });
    for (std::thread& each : workers) each.join();
}

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        std::printf(
            "usage: 12_use_threads CHECKPOINT SCOPE\n"
            "Fuses the experts in SCOPE on several threads, twice, and compares.\n");
        return 0;
    }
    if (argc != 3) {
        std::fprintf(stderr, "error: a checkpoint and a scope are needed; see --help\n");
        return 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };
    const auto checkpoint = sf::checkpoint::open(argv[1]);
    if (!checkpoint) return report(checkpoint.error());
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, argv[2]);
    if (!plan) return report(plan.error());

    // One buffer for each output, in the order of plan->outputs().
    std::vector<std::vector<std::byte>> first, second;
    for (const sf::plan_output& output : plan->outputs())
        first.emplace_back(static_cast<std::size_t>(output.size_bytes));
    second = first;

    if (auto done = sf::fuse(*plan, first, sf::threads{}); !done) return report(done.error());
    if (auto done = sf::fuse(*plan, second, my_executor); !done) return report(done.error());

    // The bytes do not depend on the number of threads.
    std::printf("%zu outputs, %s\n", first.size(), first == second ? "equal" : "different");
    return first == second ? 0 : 1;
}
