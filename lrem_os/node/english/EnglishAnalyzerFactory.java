// The analyzer english for an Elasticsearch without its module analysis-common, with the stable plugin API.
// lrem-os-english.jar holds this class, compiled against the jars in the distribution's lib:
//   javac --release 21 -g:none -cp 'lib/*' -d out EnglishAnalyzerFactory.java
package lremos;

import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.elasticsearch.plugin.NamedComponent;
import org.elasticsearch.plugin.analysis.AnalyzerFactory;

@NamedComponent("english")
public final class EnglishAnalyzerFactory implements AnalyzerFactory {
    @Override
    public Analyzer create() {
        return new EnglishAnalyzer();
    }
}
