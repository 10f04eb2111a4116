// The cost of each step as checkpoints grow in tensors, experts, shards and threads. A step that
// grows faster than its input has an exponent above 1, the slope of a line through the logarithms
// of all medians. Caches that become too small cost up to 0.2.
//
//     benchmark_scaling [options of measure.hpp]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/parallel.hpp>

#include "measure.hpp"
#include "synthetic.hpp"

namespace sf = safefuse;

namespace {

/// The medians of a step by input size.
struct curve {
    std::string step;
    std::vector<double> sizes, seconds;

    double exponent() const {
        double n = 0, x = 0, y = 0, xx = 0, xy = 0;
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            const double u = std::log(sizes[i]), v = std::log(seconds[i]);
            n += 1, x += u, y += v, xx += u * u, xy += u * v;
        }
        return (n * xy - x * y) / (n * xx - x * x);
    }
};

struct step {
    std::string name;
    std::function<bool()> run;
};

/// Measures all steps at one size. `thing` is what is counted.
void measure_steps(measure::program& program, std::vector<curve>& curves, double size,
                   const std::string& thing, const std::vector<step>& steps) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.0f ", size);
    measure::race race{program, digits + thing};
    for (const step& each : steps)
        race.add("safefuse, " + each.name, [&program, &each]() -> double {
            // often enough to measure
            int times = 0;
            double seconds = 0;
            while (seconds < 2e-3) {
                ++times;
                seconds += measure::seconds_of([&] {
                    if (!each.run()) program.fail(each.name + " failed");
                });
            }
            return seconds / times;
        });
    race.run().report(measure::milliseconds());
    for (const step& each : steps) {
        curve* found = nullptr;
        for (curve& at : curves)
            if (at.step == each.name) found = &at;
        if (found == nullptr) found = &curves.emplace_back(curve{each.name, {}, {}});
        found->sizes.push_back(size);
        found->seconds.push_back(race.seconds("safefuse, " + each.name));
    }
}

void report(measure::program& program, const std::vector<curve>& curves, const std::string& thing) {
    for (const curve& each : curves) {
        std::printf("%s by %s: exponent %.2f\n", each.step.c_str(), thing.c_str(), each.exponent());
        program.record("safefuse, " + each.step, "by " + thing, each.exponent(), "exponent");
    }
}

const sf::family_description& family = sf::description_of<sf::families::qwen2_moe>;

/// The steps that process a whole checkpoint.
std::vector<step> checkpoint_steps(const std::string& path, const sf::checkpoint& opened,
                                   std::vector<std::string>& names) {
    names.clear();
    for (std::size_t i = 0; i < opened.size(); ++i) names.emplace_back(opened.spec(i).name);
    return {
        {"open", [&path] { return sf::checkpoint::open(path).has_value(); }},
        {"verify", [&path] { return sf::checkpoint::verify(path).has_value(); }},
        {"find every name",
         [&] {
             bool good = true;
             for (const std::string& name : names)
                 good = opened.index_of(name) != sf::checkpoint::npos && good;
             return good;
         }},
        {"find scopes", [&opened] { return sf::experts_scopes::find(opened, family).has_value(); }},
        {"plan every scope",
         [&opened] {
             const auto scopes = sf::experts_scopes::find(opened, family);
             bool good = scopes.has_value();
             for (std::size_t i = 0; good && i < scopes->size(); ++i)
                 good = sf::plan(opened, (*scopes)[i], family, sf::direction::forward).has_value();
             return good;
         }},
        {"tell the family by names", [&opened] { return sf::detect_family(opened).has_value(); }},
    };
}

struct model {
    std::uint64_t layers, experts;
    std::uint32_t shards;
};

void measure_checkpoints(measure::program& program, const std::string& thing,
                         const std::vector<model>& models,
                         const std::function<double(const model&, std::size_t)>& size) {
    std::vector<curve> curves;
    for (const model& each : models) {
        const std::filesystem::path directory = program.work() / "checkpoint";
        const auto tensors = synthetic::kimi_k2(each.layers, each.experts, each.shards);
        if (!synthetic::write_checkpoint(directory, tensors).good)
            return program.fail("cannot write a sparse checkpoint into " + directory.string());
        const std::string path = directory.string();
        {
            const auto opened = sf::checkpoint::open(path);
            if (!opened) return program.fail(opened.error().message().c_str());
            std::vector<std::string> names;
            measure_steps(program, curves, size(each, opened->size()), thing,
                          checkpoint_steps(path, *opened, names));
        }
        std::filesystem::remove_all(directory);
    }
    report(program, curves, thing);
}

void measure_headers(measure::program& program, const std::vector<std::uint64_t>& layers) {
    std::vector<curve> curves;
    for (const std::uint64_t count : layers) {
        const auto encoded = synthetic::encode(synthetic::kimi_k2(count, 384, 1));
        if (!encoded) return program.fail(encoded.error().message().c_str());
        const auto parsed = sf::header::parse(encoded->bytes.view(), encoded->file_bytes);
        if (!parsed) return program.fail(parsed.error().message().c_str());
        measure_steps(
            program, curves, static_cast<double>(parsed->size()), "tensors of one header",
            {{"parse a header",
              [&] {
                  return sf::header::parse(encoded->bytes.view(), encoded->file_bytes).has_value();
              }},
             {"encode a header", [&] {
                  std::vector<sf::tensor_spec> specs;
                  for (std::size_t i = 0; i < parsed->size(); ++i) specs.push_back((*parsed)[i]);
                  return sf::encode_header({specs.data(), specs.size()}).has_value();
              }}});
    }
    report(program, curves, "tensors of one header");
}

/// Experts of one layer in memory, fused by more and more threads. The fit shows how the time
/// falls: -1 is ideal, up to the number of cores and as long as memory is not the limit.
void measure_threads(measure::program& program, std::uint64_t experts) {
    constexpr std::uint64_t inner = 768, hidden = 2048, wide[] = {inner, hidden},
                            tall[] = {hidden, inner};
    constexpr std::size_t matrix_bytes = inner * hidden * 2;
    std::vector<std::byte> source(experts * 3 * matrix_bytes, std::byte{1}),
        destination(source.size(), std::byte{2});
    std::vector<std::string> names;
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"down", "gate", "up"})
            names.push_back("mlp.experts." + std::to_string(e) + '.' + part + "_proj.weight");
    std::vector<sf::named_tensor> tensors;
    for (std::size_t i = 0; i < names.size(); ++i)
        tensors.push_back({names[i], *sf::tensor_view::of(
                                         sf::dtype::bf16,
                                         i % 3 == 0 ? sf::shape_view{tall} : sf::shape_view{wide},
                                         {source.data() + i * matrix_bytes, matrix_bytes})});
    const sf::tensor_list set{{tensors.data(), tensors.size()}};
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, "mlp.experts");
    if (!plan) return program.fail(plan.error().message().c_str());
    std::vector<std::span<std::byte>> buffers;
    std::size_t used = 0;
    for (const sf::plan_output& output : plan->outputs()) {
        buffers.emplace_back(destination.data() + used,
                             static_cast<std::size_t>(output.size_bytes));
        used += static_cast<std::size_t>(output.size_bytes);
    }
    std::vector<curve> curves;
    for (unsigned threads = 1; threads <= std::max(2u, std::thread::hardware_concurrency());
         threads *= 2)
        measure_steps(program, curves, threads, "threads",
                      {{"fuse", [&, threads] {
                            return sf::fuse(*plan, buffers, sf::threads{threads}).has_value();
                        }}});
    report(program, curves, "threads");
}

}  // namespace

int main(int argc, char** argv) {
    measure::program program{"scaling", argc, argv, 5};
    const bool small = program.is_small();
    // 2,326 tensors per layer; 300 layers make a header of 93 MB, and a header over 100 MB is
    // refused
    measure_headers(program, small ? std::vector<std::uint64_t>{2, 5, 11}
                                   : std::vector<std::uint64_t>{2, 5, 14, 44, 130, 300});
    measure_checkpoints(program, "tensors",
                        small ? std::vector<model>{{2, 164, 2}, {5, 384, 2}, {10, 384, 2}}
                              : std::vector<model>{{2, 164, 2},
                                                   {5, 384, 2},
                                                   {14, 384, 2},
                                                   {44, 384, 2},
                                                   {130, 384, 2},
                                                   {431, 384, 2}},
                        [](const model&, std::size_t count) { return static_cast<double>(count); });
    measure_checkpoints(
        program, "experts in a layer",
        small ? std::vector<model>{{2, 64, 1}, {2, 512, 1}}
              : std::vector<model>{{2, 64, 1}, {2, 512, 1}, {2, 4096, 1}, {2, 32768, 1}},
        [](const model& each, std::size_t) { return static_cast<double>(each.experts); });
    measure_checkpoints(
        program, "shards",
        small ? std::vector<model>{{40, 32, 2}, {40, 32, 10}, {40, 32, 40}}
              : std::vector<model>{{400, 32, 2}, {400, 32, 20}, {400, 32, 100}, {400, 32, 400}},
        [](const model& each, std::size_t) { return static_cast<double>(each.shards); });
    measure_threads(program, small ? 8 : 32);
    return program.finish();
}
