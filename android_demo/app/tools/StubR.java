import java.io.IOException;
import java.nio.file.*;
import java.util.*;
import java.util.regex.*;
import java.util.stream.*;

/**
 * Writes R.java for a folder of Android resources, so that the app compiles without the Android build tools.
 *
 * <p>The numbers have no meaning: an app with real resources uses the R class of aapt2 instead. The fields are not final, so
 * that the compiler does not copy the numbers into other classes.
 */
public final class StubR {
    private static final Pattern VALUE = Pattern.compile("<(string|color|dimen|style)\\s+name=\"([^\"]+)\"");
    private static final Pattern ID = Pattern.compile("@\\+id/(\\w+)");

    /** Arguments: the folder of resources, the folder to write sources to, the package. */
    public static void main(String[] args) throws IOException {
        Map<String, SortedSet<String>> names = new TreeMap<>();
        try (Stream<Path> paths = Files.walk(Path.of(args[0]))) {
            for (Path path : (Iterable<Path>) paths.filter(Files::isRegularFile)::iterator) collect(path, names);
        }
        StringBuilder java = new StringBuilder("package " + args[2] + ";\n\npublic final class R {\n");
        int next = 0x7f000000;
        for (Map.Entry<String, SortedSet<String>> type : names.entrySet()) {
            java.append("    public static final class ").append(type.getKey()).append(" {\n");
            for (String name : type.getValue()) {
                java.append("        public static int ").append(name).append(" = ").append(next++).append(";\n");
            }
            java.append("    }\n");
        }
        Path file = Path.of(args[1], args[2].replace('.', '/'), "R.java");
        Files.createDirectories(file.getParent());
        Files.writeString(file, java.append("}\n"));
    }

    private static void collect(Path path, Map<String, SortedSet<String>> names) throws IOException {
        String type = path.getParent().getFileName().toString().replaceFirst("-.*", "");
        String text = Files.readString(path);
        if (type.equals("values")) {
            for (Matcher at = VALUE.matcher(text); at.find(); ) add(names, at.group(1), at.group(2));
        } else {
            add(names, type, path.getFileName().toString().replaceFirst("\\..*", ""));
            for (Matcher at = ID.matcher(text); at.find(); ) add(names, "id", at.group(1));
        }
    }

    private static void add(Map<String, SortedSet<String>> names, String type, String name) {
        names.computeIfAbsent(type, key -> new TreeSet<>()).add(name);
    }
}
