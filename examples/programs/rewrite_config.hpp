// config.json lists modules that a quantiser skipped, expert by expert. After fusing, these modules
// do not exist any more. The lists must name the module that contains the experts instead.
#ifndef SAFEFUSE_EXAMPLES_REWRITE_CONFIG_HPP
#define SAFEFUSE_EXAMPLES_REWRITE_CONFIG_HPP

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rewrite_config {

/// A module of experts: its stored name and its new name.
using fused_module = std::pair<std::string, std::string>;

/// Whether a key's list contains names of modules.
inline bool lists_modules(std::string_view key) {
    return key == "ignore" || key == "exclude" || key == "exclude_modules" ||
           key == "modules_to_not_convert" || key == "ignored_layers" ||
           key == "modules_to_not_quantize" || key == "exclude_layers";
}

/// Position after the closing quote of the JSON string that begins at `at`. npos if it is not
/// closed.
inline std::size_t end_of_string(std::string_view json, std::size_t at) {
    for (std::size_t i = at + 1; i < json.size(); ++i) {
        if (json[i] == '\\')
            ++i;
        else if (json[i] == '"')
            return i + 1;
    }
    return std::string_view::npos;
}

/// The new name of an entry: an expert of a fused module becomes that module.
inline std::string renamed_entry(const std::string& entry,
                                 const std::vector<fused_module>& modules) {
    for (const auto& [stored, fused] : modules) {
        if (entry.size() <= stored.size() + 1 || !entry.starts_with(stored) ||
            entry[stored.size()] != '.')
            continue;
        const std::size_t end = entry.find('.', stored.size() + 1);
        const std::string number = entry.substr(
            stored.size() + 1, end == std::string::npos ? end : end - stored.size() - 1);
        if (!number.empty() && number.find_first_not_of("0123456789") == std::string::npos)
            return fused;
    }
    return entry;
}

/// The text of config.json with updated lists. Adds the number of removed entries to `changed`. A
/// text that is not JSON stays as it is.
inline std::string renew_lists(std::string_view json, const std::vector<fused_module>& modules,
                               std::size_t& changed) {
    std::string out;
    std::size_t copied = 0;
    for (std::size_t i = 0; i < json.size();) {
        if (json[i] != '"') {
            ++i;
            continue;
        }
        const std::size_t end = end_of_string(json, i);
        if (end == std::string_view::npos) break;
        const std::string_view key = json.substr(i + 1, end - i - 2);
        i = end;
        std::size_t at = json.find_first_not_of(" \t\r\n", end);
        if (!lists_modules(key) || at == std::string_view::npos || json[at] != ':') continue;
        at = json.find_first_not_of(" \t\r\n", at + 1);
        if (at == std::string_view::npos || json[at] != '[') continue;
        // the entries, the text before the first one and the text after the last one
        std::vector<std::string> entries;
        const std::size_t list = at + 1;
        std::string_view before, between;
        std::size_t p = json.find_first_not_of(" \t\r\n", list), last = list;
        bool is_list = p != std::string_view::npos && json[p] == '"';
        if (is_list) before = json.substr(list, p - list);
        while (is_list) {
            const std::size_t entry_end = end_of_string(json, p);
            if (entry_end == std::string_view::npos) break;
            entries.emplace_back(json.substr(p + 1, entry_end - p - 2));
            last = entry_end;
            p = json.find_first_not_of(" \t\r\n", entry_end);
            if (p == std::string_view::npos || json[p] != ',') break;
            const std::size_t next = json.find_first_not_of(" \t\r\n", p + 1);
            if (next == std::string_view::npos || json[next] != '"') is_list = false;
            if (is_list && between.empty()) between = json.substr(last, next - last);
            p = next;
        }
        if (!is_list || p == std::string_view::npos || json[p] != ']') continue;
        std::vector<std::string> renewed;
        std::size_t gone = 0;
        for (const std::string& entry : entries) {
            std::string now = renamed_entry(entry, modules);
            bool is_new = true;
            if (now != entry) {
                ++gone;
                for (const std::string& each : renewed) is_new = is_new && each != now;
            }
            if (is_new) renewed.push_back(std::move(now));
        }
        if (gone == 0) continue;
        changed += gone;
        out.append(json.substr(copied, list - copied)).append(before);
        for (std::size_t e = 0; e < renewed.size(); ++e) {
            if (e != 0) out.append(between.empty() ? std::string_view{", "} : between);
            out.append("\"").append(renewed[e]).append("\"");
        }
        copied = i = last;
    }
    return out.append(json.substr(copied));
}

}  // namespace rewrite_config

#endif
